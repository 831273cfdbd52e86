//! The trace in which an append happens, so that the consumers of its events can continue it.

/// A place in a trace, as W3C Trace Context writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContext {
    /// The header `traceparent`: trace id, span id and flags.
    pub traceparent: String,
    /// The header `tracestate`: what vendors add to it.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// A context from its headers. They are handed on as they are.
    #[must_use]
    pub fn new(traceparent: impl Into<String>, tracestate: Option<String>) -> Self {
        Self { traceparent: traceparent.into(), tracestate }
    }

    /// The current span of OpenTelemetry, if there is a valid one. With the layer of the crate `tracing-opentelemetry`,
    /// that is the current span of `tracing`.
    ///
    /// Set it with [`EventStoreBuilder::trace_context`](crate::EventStoreBuilder::trace_context):
    /// `.trace_context(TraceContext::current)`.
    #[cfg(feature = "opentelemetry")]
    #[must_use]
    pub fn current() -> Option<Self> {
        use opentelemetry::trace::TraceContextExt as _;

        let context = opentelemetry::Context::current();
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| {
            let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
            let tracestate = Some(span.trace_state().header()).filter(|state| !state.is_empty());
            Self { traceparent: format!("00-{trace:032x}-{id:016x}-{flags:02x}"), tracestate }
        })
    }
}

#[cfg(all(test, feature = "opentelemetry"))]
mod tests {
    use opentelemetry::{
        Context,
        trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
    };

    use super::TraceContext;

    #[test]
    fn the_current_span_is_written_as_w3c_trace_context_has_it() {
        assert_eq!(TraceContext::current(), None, "there is no span");
        let state = TraceState::from_key_value([("vendor", "x")]).unwrap();
        let (trace, id) =
            (TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c), SpanId::from(0xb7ad_6b71_6920_3331));
        let span = SpanContext::new(trace, id, TraceFlags::SAMPLED, true, state);
        let _guard = Context::new().with_remote_span_context(span).attach();
        let current = TraceContext::current().unwrap();
        assert_eq!(current.traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(current.tracestate.as_deref(), Some("vendor=x"));
    }
}

//! Stacks on an engine that runs CloudFormation, by its query API: a form in, XML out.

use std::collections::HashMap;

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

use super::Template;
use crate::PATIENCE;

/// A stack that was created.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Its outputs by their names.
    pub outputs: HashMap<String, String>,
}

/// Creates a stack and waits until it is there.
///
/// # Panics
/// If the engine does not take the template, a resource fails, or it does not end within [`PATIENCE`].
pub async fn deploy(endpoint: &str, stack: &str, template: &Template, parameters: &[(&str, &str)]) -> Deployed {
    let mut form = vec![
        ("Action".to_owned(), "CreateStack"),
        ("StackName".to_owned(), stack),
        ("TemplateBody".to_owned(), &template.text),
        ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM"),
    ];
    for (number, (name, value)) in (1..).zip(parameters) {
        form.push((format!("Parameters.member.{number}.ParameterKey"), name));
        form.push((format!("Parameters.member.{number}.ParameterValue"), value));
    }
    query(endpoint, "cloudformation", "2010-05-15", &form).await;
    // There is no signal, so this polls.
    let created = async {
        loop {
            let answer = describe(endpoint, "DescribeStacks", stack).await;
            match elements(&answer, "StackStatus").first().map(String::as_str) {
                Some("CREATE_COMPLETE") => return answer,
                Some("CREATE_IN_PROGRESS") => tokio::task::yield_now().await,
                status => {
                    let events = describe(endpoint, "DescribeStackEvents", stack).await;
                    panic!("{stack} is {status:?}: {:?}", elements(&events, "ResourceStatusReason"));
                }
            }
        }
    };
    let answer = timeout(PATIENCE, created).await.unwrap_or_else(|_| panic!("{stack} is not created"));
    let outputs = elements(&answer, "OutputKey").into_iter().zip(elements(&answer, "OutputValue")).collect();
    Deployed { outputs }
}

async fn describe(endpoint: &str, action: &str, stack: &str) -> String {
    query(endpoint, "cloudformation", "2010-05-15", &[("Action".to_owned(), action), ("StackName".to_owned(), stack)])
        .await
}

/// Asks a service that speaks AWS's query protocol, and returns its XML.
///
/// # Panics
/// If it does not answer, or with an error.
pub async fn query(endpoint: &str, service: &str, version: &str, form: &[(String, &str)]) -> String {
    let fields = form.iter().map(|(name, value)| (name.as_str(), *value)).chain([("Version", version)]);
    let body: Vec<_> = fields.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    // The engines look at the shape of a signature only: it names the service that is asked.
    let signature = format!(
        "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let request = Request::post(endpoint)
        .header(AUTHORIZATION, signature)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::<Bytes>::from(body.join("&")))
        .expect("a valid request");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answered = timeout(PATIENCE, client.request(request)).await.expect("the engine answers in time");
    let answer = answered.expect("the engine answers");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("the answer is whole").to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(status.is_success(), "{service} refuses {}: {text}", form[0].1);
    text
}

/// The texts of all elements of a name. Enough for answers whose elements of interest hold nothing but text.
#[must_use]
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let texts = xml.split(&start).skip(1).filter_map(|rest| rest.split_once(&end));
    texts.map(|(text, _)| unescaped(text)).collect()
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&#x27;", "'").replace("&amp;", "&")
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

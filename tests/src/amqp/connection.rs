//! One connection of a scripted broker.

use std::{collections::HashMap, io, ops::ControlFlow};

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame},
    protocol::{AMQPClass, BasicProperties, basic, channel, confirm, connection, exchange},
    types::{AMQPValue, FieldTable},
};
use tokio::{net::TcpStream, sync::broadcast};

use super::{Act, Message, Moment, Stage, frames::Frames};

const CHANNEL_MAX: u16 = 16;
const FRAME_MAX: u32 = 131_072;
/// A suggestion; the client decides.
const HEARTBEAT_SECONDS: u16 = 60;
const NO_ROUTE: u16 = 312;
/// A class of the protocol: `basic`.
const BASIC: u16 = 60;

const GO_ON: ControlFlow<End> = ControlFlow::Continue(());

/// Why a connection ends.
enum End {
    /// Its socket is closed.
    Closed,
    /// It stays open, and nobody is there any more.
    Fallen,
}

/// A message without a verdict.
struct Open {
    message: Message,
    channel: u16,
    delivery_tag: u64,
    routing_key: String,
    properties: BasicProperties,
    body: Vec<u8>,
    is_returned: bool,
}

/// A message of which a part has arrived.
struct Arriving {
    routing_key: String,
    header: Option<AMQPContentHeader>,
    body: Vec<u8>,
}

struct Connection {
    number: u64,
    stage: Stage,
    frames: Frames,
    /// The channel of the message that has arrived last.
    channel: u16,
    /// Messages that have arrived, and those of each channel.
    arrived: u64,
    delivery_tags: HashMap<u16, u64>,
    arriving: HashMap<u16, Arriving>,
    open: Vec<Open>,
}

pub(super) async fn serve(socket: TcpStream, number: u64, stage: Stage) {
    let commands = stage.commands.subscribe();
    let record = stage.record.clone();
    let mut connection = Connection {
        number,
        stage,
        frames: Frames::new(socket),
        channel: 0,
        arrived: 0,
        delivery_tags: HashMap::new(),
        arriving: HashMap::new(),
        open: Vec::new(),
    };
    let end = connection.run(commands).await;
    connection.abandon(None);
    if matches!(end, Ok(End::Fallen)) {
        // The peer may end it; until then the socket is held.
        let _ = connection.wait_for_end().await;
    }
    record.note(|seen| seen.ended += 1);
}

impl Connection {
    async fn run(&mut self, mut commands: broadcast::Receiver<Act>) -> io::Result<End> {
        loop {
            while let Some(frame) = self.frames.take()? {
                if let ControlFlow::Break(end) = self.handle(frame).await? {
                    return Ok(end);
                }
            }
            if self.frames.read_what_is_there()? {
                continue;
            }
            let open: Vec<_> = self.open.iter().map(|open| open.message.clone()).collect();
            if !open.is_empty()
                && let ControlFlow::Break(end) =
                    self.ask(&Moment::Idle { connection: self.number, open: &open }).await?
            {
                return Ok(end);
            }
            tokio::select! {
                read = self.frames.read() => read?,
                Ok(act) = commands.recv() => if let ControlFlow::Break(end) = self.act(act, None).await? {
                    return Ok(end);
                }
            }
        }
    }

    async fn wait_for_end(&mut self) -> io::Result<()> {
        loop {
            self.frames.read().await?;
        }
    }

    async fn handle(&mut self, frame: AMQPFrame) -> io::Result<ControlFlow<End>> {
        let connection = self.number;
        match frame {
            AMQPFrame::ProtocolHeader(_) => self.answer(&Moment::Hello { connection }, Some(start())).await,
            AMQPFrame::Heartbeat => {
                self.frames.send(&[AMQPFrame::Heartbeat]).await?;
                Ok(GO_ON)
            }
            AMQPFrame::Method(channel, class) => self.handle_method(channel, class).await,
            AMQPFrame::Header(channel, header) => {
                let is_empty = header.body_size == 0;
                if let Some(arriving) = self.arriving.get_mut(&channel) {
                    arriving.header = Some(header);
                }
                if is_empty { self.arrived(channel).await } else { Ok(GO_ON) }
            }
            AMQPFrame::Body(channel, part) => {
                let Some(arriving) = self.arriving.get_mut(&channel) else { return Ok(GO_ON) };
                arriving.body.extend(part);
                let size = arriving.header.as_ref().map_or(0, |header| header.body_size);
                if arriving.body.len() as u64 >= size { self.arrived(channel).await } else { Ok(GO_ON) }
            }
            AMQPFrame::InvalidHeartbeat(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    async fn handle_method(&mut self, id: u16, class: AMQPClass) -> io::Result<ControlFlow<End>> {
        use connection::AMQPMethod as Conn;
        let number = self.number;
        let on_connection = |method| Some(AMQPFrame::Method(0, AMQPClass::Connection(method)));
        let (moment, answer) = match class {
            AMQPClass::Connection(Conn::StartOk(_)) => {
                let tune =
                    connection::Tune { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat: HEARTBEAT_SECONDS };
                (Moment::Login { connection: number }, on_connection(Conn::Tune(tune)))
            }
            AMQPClass::Connection(Conn::Open(_)) => {
                (Moment::Open { connection: number }, on_connection(Conn::OpenOk(connection::OpenOk {})))
            }
            AMQPClass::Connection(Conn::Close(_)) => {
                self.frames.send(&[method(0, Conn::CloseOk(connection::CloseOk {}))]).await?;
                self.stage.record.note(|seen| seen.farewells += 1);
                return Ok(ControlFlow::Break(End::Closed));
            }
            AMQPClass::Connection(Conn::CloseOk(_)) => return Ok(ControlFlow::Break(End::Closed)),
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                self.delivery_tags.insert(id, 0);
                let ok = channel::AMQPMethod::OpenOk(channel::OpenOk {});
                (Moment::Setup { connection: number }, Some(AMQPFrame::Method(id, AMQPClass::Channel(ok))))
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                self.abandon(Some(id));
                let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                self.frames.send(&[AMQPFrame::Method(id, AMQPClass::Channel(ok))]).await?;
                return Ok(GO_ON);
            }
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(_)) => {
                let ok = exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {});
                (Moment::Setup { connection: number }, Some(AMQPFrame::Method(id, AMQPClass::Exchange(ok))))
            }
            AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
                let ok = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
                (Moment::Setup { connection: number }, Some(AMQPFrame::Method(id, AMQPClass::Confirm(ok))))
            }
            AMQPClass::Basic(basic::AMQPMethod::Publish(publish)) => {
                let routing_key = publish.routing_key.to_string();
                self.arriving.insert(id, Arriving { routing_key, header: None, body: Vec::new() });
                return Ok(GO_ON);
            }
            // TuneOk, and CloseOk of a channel.
            _ => return Ok(GO_ON),
        };
        self.answer(&moment, answer).await
    }

    /// A message has arrived whole.
    async fn arrived(&mut self, channel: u16) -> io::Result<ControlFlow<End>> {
        let Some(Arriving { routing_key, header: Some(header), body }) = self.arriving.remove(&channel) else {
            return Ok(GO_ON);
        };
        let (stream, version) = identity(&header.properties).unwrap_or_default();
        let number = self.stage.record.note(|seen| {
            seen.messages += 1;
            seen.messages
        });
        self.arrived += 1;
        self.channel = channel;
        let message = Message { connection: self.number, tag: self.arrived, number, stream, version };
        let delivery_tag = self.delivery_tags.entry(channel).or_default();
        *delivery_tag += 1;
        self.open.push(Open {
            message: message.clone(),
            channel,
            delivery_tag: *delivery_tag,
            routing_key,
            properties: header.properties,
            body,
            is_returned: false,
        });
        self.ask(&Moment::Published(&message)).await
    }

    /// Asks the script and does what it says.
    async fn ask(&mut self, moment: &Moment<'_>) -> io::Result<ControlFlow<End>> {
        self.answer(moment, None).await
    }

    async fn answer(&mut self, moment: &Moment<'_>, answer: Option<AMQPFrame>) -> io::Result<ControlFlow<End>> {
        let acts = (self.stage.script.lock().expect("no script has panicked"))(moment);
        for act in acts {
            if let ControlFlow::Break(end) = self.act(act, answer.as_ref()).await? {
                return Ok(ControlFlow::Break(end));
            }
        }
        Ok(GO_ON)
    }

    async fn act(&mut self, act: Act, answer: Option<&AMQPFrame>) -> io::Result<ControlFlow<End>> {
        match act {
            Act::Proceed => self.frames.send(answer.map_or(&[], std::slice::from_ref)).await?,
            Act::Ack { tag, multiple } => {
                self.conclude(tag, multiple, true).await?;
            }
            Act::AckAll => {
                while let Some(last) = self.open.last() {
                    self.conclude(last.message.tag, true, true).await?;
                }
            }
            Act::Nack { tag, multiple } => {
                self.conclude(tag, multiple, false).await?;
            }
            Act::Return { tag } => self.send_back(tag).await?,
            Act::CloseChannel(code, text) => {
                let close = channel::Close { reply_code: code, reply_text: text.into(), class_id: 0, method_id: 0 };
                let id = self.channel;
                self.abandon(Some(id));
                let close = channel::AMQPMethod::Close(close);
                self.frames.send(&[AMQPFrame::Method(id, AMQPClass::Channel(close))]).await?;
            }
            Act::CloseConnection(code, text) => {
                let close = connection::Close { reply_code: code, reply_text: text.into(), class_id: 0, method_id: 0 };
                self.abandon(None);
                self.frames.send(&[method(0, connection::AMQPMethod::Close(close))]).await?;
            }
            Act::Block => {
                let blocked = connection::Blocked { reason: "low on memory".into() };
                self.frames.send(&[method(0, connection::AMQPMethod::Blocked(blocked))]).await?;
            }
            Act::Unblock => {
                self.frames.send(&[method(0, connection::AMQPMethod::Unblocked(connection::Unblocked {}))]).await?;
            }
            Act::Babble => self.frames.babble().await?,
            Act::Fall => {
                self.abandon(None);
                return Ok(ControlFlow::Break(End::Fallen));
            }
            Act::Reset => {
                self.abandon(None);
                self.frames.reset();
                return Ok(ControlFlow::Break(End::Closed));
            }
        }
        Ok(GO_ON)
    }

    /// A verdict on a message, or on it and all before it on its channel.
    async fn conclude(&mut self, tag: u64, multiple: bool, is_taken: bool) -> io::Result<()> {
        let Some(meant) = self.open.iter().find(|open| open.message.tag == tag) else { return Ok(()) };
        let (channel, delivery_tag) = (meant.channel, meant.delivery_tag);
        let is_meant = |open: &Open| {
            open.message.tag == tag || (multiple && open.channel == channel && open.delivery_tag < delivery_tag)
        };
        let (concluded, open) = std::mem::take(&mut self.open).into_iter().partition(is_meant);
        self.open = open;
        let taken = concluded.iter().filter(|open: &&Open| is_taken && !open.is_returned);
        self.stage.record.note(|seen| {
            for Open { message, .. } in taken {
                seen.confirmed.count(&message.stream, message.version);
                seen.arrived.count(&message.stream, message.version);
            }
        });
        let verdict = if is_taken {
            basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple })
        } else {
            basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue: false })
        };
        self.frames.send(&[AMQPFrame::Method(channel, AMQPClass::Basic(verdict))]).await
    }

    /// Open messages, of one channel or of all, get no verdict: a consumer may have got them, or not.
    fn abandon(&mut self, channel: Option<u16>) {
        let is_meant = |open: &Open| channel.is_none_or(|channel| open.channel == channel);
        let (open, left): (Vec<_>, _) = std::mem::take(&mut self.open).into_iter().partition(is_meant);
        self.open = left;
        self.stage.record.note(|seen| {
            for Open { message, .. } in open.iter().filter(|open| !open.is_returned) {
                seen.arrived.count(&message.stream, message.version);
            }
        });
    }

    async fn send_back(&mut self, tag: u64) -> io::Result<()> {
        let Some(open) = self.open.iter_mut().find(|open| open.message.tag == tag) else { return Ok(()) };
        open.is_returned = true;
        let id = open.channel;
        let returned = basic::Return {
            reply_code: NO_ROUTE,
            reply_text: "NO_ROUTE".into(),
            exchange: "".into(),
            routing_key: open.routing_key.as_str().into(),
        };
        let header = AMQPContentHeader {
            class_id: BASIC,
            body_size: open.body.len() as u64,
            properties: open.properties.clone(),
        };
        let mut frames = vec![
            AMQPFrame::Method(id, AMQPClass::Basic(basic::AMQPMethod::Return(returned))),
            AMQPFrame::Header(id, header),
        ];
        if !open.body.is_empty() {
            frames.push(AMQPFrame::Body(id, open.body.clone()));
        }
        self.frames.send(&frames).await
    }
}

fn method(channel: u16, method: connection::AMQPMethod) -> AMQPFrame {
    AMQPFrame::Method(channel, AMQPClass::Connection(method))
}

fn start() -> AMQPFrame {
    let mut capabilities = FieldTable::default();
    for name in ["publisher_confirms", "basic.nack", "connection.blocked", "authentication_failure_close"] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut server_properties = FieldTable::default();
    server_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
    };
    method(0, connection::AMQPMethod::Start(start))
}

fn identity(properties: &BasicProperties) -> Option<(String, u64)> {
    let headers = properties.headers().as_ref()?.inner();
    let stream = headers.get(streambox::message::STREAM_ID_HEADER)?.as_long_string()?.to_string();
    match headers.get(streambox::message::VERSION_HEADER)? {
        AMQPValue::LongLongInt(version) => Some((stream, u64::try_from(*version).ok()?)),
        _ => None,
    }
}

//! The session of the feed: messages are parsed and judged here, once, and what is a protocol matter goes to
//! the [machine](super::session).

use std::time::Duration;

use jiff::Timestamp;

use super::approval::{self, Refusal};
use super::session::{self, Settings};
use super::{Control, Frame, Message, parse, trade_of};
use crate::{Connect, Data, Input, Malformed, Method, Outgoing, Output, Refused, Request, Session, Setup};

/// How long KIS gets to give an approval key, in real time.
const KEY_WITHIN: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Live {
    machine: session::Session,
    symbols: Vec<String>,
    approval: String,
    websocket: String,
    app_key: String,
    app_secret: String,
}

impl Live {
    pub(super) fn new(settings: Settings, setup: &Setup<'_>, app_key: &str, app_secret: &str) -> Self {
        Self {
            symbols: settings.symbols.clone(),
            machine: session::Session::new(settings, setup.seed, setup.now),
            approval: format!("{}{}", setup.address("rest").trim_end_matches('/'), approval::PATH),
            websocket: setup.address("websocket").to_owned(),
            app_key: app_key.to_owned(),
            app_secret: app_secret.to_owned(),
        }
    }

    fn message(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<Output>) {
        match parse(bytes) {
            Ok(Message::Data(frame)) => {
                judge(&frame, bytes, now, out);
                self.tell(session::Input::Data(&frame), now, out);
            }
            Ok(Message::Control(control)) => {
                if let Control::Reply(reply) = &control
                    && reply.rt_cd != "0"
                {
                    let (tr_id, tr_key) =
                        (reply.tr_id.as_deref().unwrap_or("-"), reply.tr_key.as_deref().unwrap_or("-"));
                    out.push(Output::Note(format!(
                        "KIS says {} {} ({tr_id} {tr_key})",
                        reply.code.as_str(),
                        reply.text
                    )));
                }
                self.tell(session::Input::Control(control), now, out);
            }
            Ok(Message::Sealed(sealed)) => {
                let message = format!(
                    "an encrypted frame of {} came, which this collector did not ask for",
                    sealed.tr_id
                );
                malformed(Refused { cause: "unexpected_encryption", message }, bytes, out);
                self.tell(session::Input::Traffic, now, out);
            }
            // A control message that cannot be read may hold a key: it is counted and described, not kept.
            Err(refused) if bytes.first() == Some(&b'{') => {
                out.push(Output::Note(format!("a control message cannot be read: {refused}")));
                malformed(refused, b"[control message not kept]", out);
                self.tell(session::Input::Traffic, now, out);
            }
            Err(refused) => {
                malformed(refused, bytes, out);
                self.tell(session::Input::Traffic, now, out);
            }
        }
    }

    /// Tells the machine, and puts what it says into the collector's terms.
    fn tell(&mut self, input: session::Input<'_>, now: Timestamp, out: &mut Vec<Output>) {
        for output in self.machine.handle(input, now) {
            out.push(match output {
                session::Output::AskKey => Output::Request(Request {
                    method: Method::Post,
                    url: self.approval.clone(),
                    headers: vec![("content-type".into(), "application/json".into())],
                    body: Some(approval::body(&self.app_key, &self.app_secret).to_string()),
                    within: KEY_WITHIN,
                }),
                session::Output::Open => Output::Connect(Connect {
                    url: self.websocket.clone(),
                    headers: Vec::new(),
                    accept_bad_text: true,
                }),
                session::Output::Request(request) => match self.machine.text(&request) {
                    Some(text) => Output::Send(Outgoing::Text(text)),
                    None => continue,
                },
                session::Output::Echo(text) => Output::Send(Outgoing::Text(text)),
                session::Output::Close(why) => Output::Close(why),
                session::Output::Up { number, active } => Output::Up { number, active },
                session::Output::Down { number, reason, last_message_at } => {
                    Output::Down { number, reason, last_message_at }
                }
                session::Output::Note(note) => Output::Note(note),
                session::Output::Fatal { reason, remedy } => Output::Fatal { reason, remedy },
            });
        }
    }
}

/// Every good record is a trade; the first bad one makes the frame malformed as well.
fn judge(frame: &Frame<'_>, bytes: &[u8], received_at: Timestamp, out: &mut Vec<Output>) {
    let mut first = None;
    for (n, record) in frame.records().enumerate() {
        match trade_of(&record, received_at) {
            Ok(trade) => out.push(Output::Data(Data::Trade(Box::new(trade)))),
            Err(refused) => {
                let Refused { cause, message } = refused;
                let message = if frame.len() == 1 { message } else { format!("record {}: {message}", n + 1) };
                first.get_or_insert(Refused { cause, message });
            }
        }
    }
    if let Some(refused) = first {
        malformed(refused, bytes, out);
    }
}

fn malformed(refused: Refused, bytes: &[u8], out: &mut Vec<Output>) {
    out.push(Output::Data(Data::Malformed(Malformed { refused, bytes: bytes.to_vec() })));
}

impl Session for Live {
    fn handle(&mut self, input: Input<'_>, now: Timestamp, out: &mut Vec<Output>) {
        let input = match input {
            Input::Message(bytes) => return self.message(bytes, now, out),
            Input::Tick => session::Input::Wake,
            Input::Opened => session::Input::Opened,
            Input::NotOpened(why) => session::Input::NotOpened(why),
            Input::Traffic => session::Input::Traffic,
            Input::Answer(Ok(answer)) => session::Input::Key(approval::answer(answer.status, &answer.body)),
            Input::Answer(Err(why)) => {
                session::Input::Key(Err(Refusal::Failed(format!("the approval call failed: {why}"))))
            }
            Input::Closed(why) => session::Input::Closed(why),
            Input::Stop => session::Input::Stop,
        };
        self.tell(input, now, out);
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.machine.wake_at()
    }

    fn is_up(&self) -> bool {
        self.machine.is_up()
    }

    fn has_ended(&self) -> bool {
        self.machine.has_ended()
    }

    fn number(&self) -> u64 {
        self.machine.number()
    }

    fn reconnects(&self) -> u64 {
        self.machine.reconnects()
    }

    fn active(&self) -> usize {
        self.machine.active()
    }

    fn degraded(&self) -> Option<String> {
        self.machine.degraded()
    }

    fn waits(&self) -> Option<(Timestamp, &str)> {
        self.machine.waits()
    }

    fn symbols(&self) -> &[String] {
        &self.symbols
    }
}

#[cfg(test)]
mod tests;

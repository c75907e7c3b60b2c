//! Everything the site knows about who may come in: users, sessions, failures.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use accounts::password::{self, PasswordError};
use accounts::store::{self, Source, Used};
use accounts::{Accounts, Role, secret};
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::sessions::{Opening, Sessions};
use super::throttle::{Key, Throttle};
use super::trail::{Tell, Trail};
use crate::http::caller::{Caller, Who};
use clock::Clock;
use daemon::handle::Note;

/// Passwords looked at at the same time; each takes a core and 19 MiB.
const AT_ONCE: usize = 2;
/// How long a login may wait for its turn, in real time.
const TURN: Duration = Duration::from_secs(10);

/// Settings of the logins.
#[derive(Clone)]
pub struct Settings {
    /// The users file.
    pub users: PathBuf,
    /// There has to be somebody in it.
    pub required: bool,
    /// Everybody may read `/metrics`.
    pub metrics_open: bool,
    /// A session ends when it was not used for this long.
    pub idle: SignedDuration,
    /// A session ends after this long.
    pub longest: SignedDuration,
    /// The token of the command line on this machine.
    pub local: Option<String>,
    /// Time of sessions and waits: real time, however fast the day is played.
    pub clock: Clock,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotIn {
    /// Name or password is wrong; which of the two is not said.
    Wrong,
    /// Too many failures; the next attempt may be made after this long.
    Wait(Duration),
    /// The machine is busy with other logins.
    Busy,
}

/// Everything the site knows about who may come in.
pub(crate) struct Access {
    source: Source,
    used: Arc<Used>,
    local: Option<String>,
    pub(crate) metrics_open: bool,
    clock: Clock,
    sessions: Mutex<Sessions>,
    throttle: Mutex<Throttle>,
    trail: Mutex<Trail>,
    room: Semaphore,
    /// Passwords looked at so far.
    pub(crate) looked_at: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl Access {
    /// # Errors
    /// A users file that cannot be used, or without anybody in it while there has to be somebody.
    pub(crate) fn open(settings: Settings) -> Result<Self, String> {
        let Settings { users, required, metrics_open, idle, longest, local, clock } = settings;
        let source = Source::open(users)?;
        if required && source.now().is_none_or(|all| all.is_empty()) {
            let file = source.path().display();
            return Err(format!(
                "nobody could log in: there is no user in {file}; make one with `openbell user add NAME --role operator`"
            ));
        }
        Ok(Self {
            used: Arc::new(Used::of(source.path())),
            source,
            local,
            metrics_open,
            clock,
            sessions: Mutex::new(Sessions::new(idle, longest)),
            throttle: Mutex::new(Throttle::default()),
            trail: Mutex::new(Trail::default()),
            room: Semaphore::new(AT_ONCE),
            looked_at: AtomicU64::new(0),
        })
    }

    /// The users; `None` while nobody has to log in.
    pub(crate) fn accounts(&self) -> Option<Arc<Accounts>> {
        self.source.now()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How long a browser keeps the cookie.
    pub(crate) fn longest(&self) -> SignedDuration {
        locked(&self.sessions).longest()
    }

    /// Whoever holds a token. A wrong one counts as a failure of its address, which then has to wait; right
    /// ones never do.
    pub(crate) fn by_token(
        &self,
        accounts: &Arc<Accounts>,
        presented: &str,
        from: &Key,
    ) -> Result<Caller, NotIn> {
        let now = self.now();
        if self.local.as_deref().is_some_and(|local| secret::equal(presented, local)) {
            return Ok(Caller { who: Who::Local, role: Some(Role::Operator), csrf: String::new() });
        }
        let Some(token) = accounts.token(presented, now) else {
            let waits = locked(&self.throttle).attempt(std::slice::from_ref(from), now);
            return Err(waits.map_or_else(NotIn::Wait, |()| NotIn::Wrong));
        };
        if self.used.note(&token.id, now) {
            let (used, accounts) = (self.used.clone(), accounts.clone());
            // A request does not wait for it, and a full disk does not make its token wrong.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = used.write(&accounts) {
                    tracing::warn!(%error, "cannot write down when tokens were last used");
                }
            });
        }
        Ok(Caller {
            who: Who::Token { name: token.name.clone() },
            role: Some(token.role),
            csrf: String::new(),
        })
    }

    /// Whoever has a session that still counts: its user is there, with the password they logged in with.
    pub(crate) fn by_session(&self, accounts: &Accounts, id: &str) -> Option<Caller> {
        let mut sessions = locked(&self.sessions);
        let session = sessions.find(id, self.now())?;
        let Some(user) = accounts.user(&session.user).filter(|user| user.password == session.password) else {
            sessions.close(id);
            return None;
        };
        let who = Who::User { name: user.name.clone(), session: id.to_owned() };
        Some(Caller { who, role: Some(user.role), csrf: session.csrf.clone() })
    }

    /// Whether somebody whose request is still being answered may go on reading.
    pub(crate) fn still(&self, caller: &Caller) -> bool {
        let Some(accounts) = self.accounts() else { return true };
        match &caller.who {
            Who::Local => true,
            Who::User { session, .. } => self.by_session(&accounts, session).is_some(),
            Who::Token { name } => {
                let now = self.now();
                accounts.tokens.iter().any(|t| t.name == *name && t.expires_at.is_none_or(|at| now < at))
            }
            // Users came after them.
            Who::Anyone | Who::Stranger => false,
        }
    }

    /// Whether a password is right, for a name from an address. Unknown names take the same way and time as
    /// known ones.
    async fn verify(&self, name: &str, password: String, from: Key) -> Result<String, NotIn> {
        let accounts = self.accounts().unwrap_or_default();
        let keys = [Key::name(name), from];
        locked(&self.throttle).attempt(&keys, self.now()).map_err(NotIn::Wait)?;
        let turn = tokio::time::timeout(TURN, self.room.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            keys.iter().for_each(|key| locked(&self.throttle).take_back(key));
            return Err(NotIn::Busy);
        };
        let user = accounts.user(name);
        let hash = user.map_or(password::NOBODY, |user| user.password.as_str()).to_owned();
        self.looked_at.fetch_add(1, Ordering::Relaxed);
        let against = hash.clone();
        let right = tokio::task::spawn_blocking(move || password::matches(&password, &against)).await;
        if !right.is_ok_and(|right| right) || user.is_none() {
            return Err(NotIn::Wrong);
        }
        locked(&self.throttle).forgive(&keys);
        Ok(hash)
    }

    /// Logs somebody in: the id of their new session.
    pub(crate) async fn log_in(&self, name: &str, password: String, from: Key) -> Result<String, NotIn> {
        let hash = self.verify(name, password, from).await?;
        self.open_session(name, hash)
    }

    fn open_session(&self, name: &str, hash: String) -> Result<String, NotIn> {
        let fresh = || {
            secret::token().map_err(|error| {
                tracing::error!(%error, "no randomness for a session");
                NotIn::Busy
            })
        };
        let (id, csrf) = (fresh()?, fresh()?);
        locked(&self.sessions).open(&id, Opening { user: name.to_owned(), password: hash, csrf }, self.now());
        Ok(id)
    }

    /// What the audit is told of a login or a token that failed; `None` where there are too many.
    pub(crate) fn tell(&self, what: &'static str, subject: &str, address: IpAddr) -> Option<Note> {
        match locked(&self.trail).failed(self.now()) {
            Tell::Failure { untold: 0 } => {
                Some(Note::new("login", what, subject, format!("failed, from {address}")).failed())
            }
            Tell::Failure { untold } => {
                let detail =
                    format!("failed, from {address}; {untold} more failed before, and were only counted");
                Some(Note::new("login", what, subject, detail).failed())
            }
            Tell::TooMany => Some(Note::new(
                "login",
                what,
                "",
                "too many fail: further ones are counted, and told in ten minutes",
            )),
            Tell::Nothing => None,
        }
    }

    /// A name as the audit has it: what a stranger typed, which may be their password, is not written down.
    pub(crate) fn known_name(&self, name: &str) -> String {
        let known = self.accounts().is_some_and(|accounts| accounts.user(name).is_some());
        if known { name.to_owned() } else { "an unknown name".to_owned() }
    }

    /// Ends a session.
    pub(crate) fn log_out(&self, session: &str) {
        locked(&self.sessions).close(session);
    }

    /// Ends all sessions of a user.
    pub(crate) fn log_out_everywhere(&self, user: &str) {
        locked(&self.sessions).close_all(user);
    }

    /// Sets a user's own password, ends all their sessions, and opens a new one: its id.
    pub(crate) async fn change_password(
        &self,
        name: &str,
        old: String,
        new: String,
        from: Key,
    ) -> Result<String, Change> {
        self.verify(name, old, from).await.map_err(Change::NotIn)?;
        let (path, user, now) = (self.source.path().to_owned(), name.to_owned(), self.now());
        let changed = tokio::task::spawn_blocking(move || {
            let hash = password::hash(&new).map_err(|error| match error {
                PasswordError::Unfit(why) => Change::Unfit(why),
                PasswordError::Machine(why) => Change::Failed(why),
            })?;
            store::edit(&path, |all| all.set_password(&user, hash.clone(), now)).map_err(Change::Failed)?;
            Ok(hash)
        });
        let hash = changed.await.unwrap_or_else(|error| Err(Change::Failed(error.to_string())))?;
        self.log_out_everywhere(name);
        self.open_session(name, hash).map_err(Change::NotIn)
    }
}

/// Why a password is not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The old one is wrong.
    NotIn(NotIn),
    /// The new one is no good.
    Unfit(String),
    /// It cannot be written.
    Failed(String),
}

//! What the API (and anybody else around the core) has of the core thread: the newest view, live events, orders.
//! Everything here is cheap, and nothing here can make the core thread wait.

use crate::configuration::Configuration;
use crate::store::Store;
use control_link::Certificate;
use domain::{AppName, Cluster, HostFigures, HostName, LogEvent, Micros, PairName};
use ha_core::{By, Incident, OperatorOrder, OrderOutcome, Plan, State, View};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, oneshot};

/// Live events that a slow subscriber may be behind before it loses the oldest.
const LIVE_EVENTS: usize = 4_096;

/// What the core thread is asked.
#[derive(Debug)]
pub enum Request {
    /// Carry out an order.
    Order {
        /// What.
        order: OperatorOrder,
        /// By whom and why.
        by: By,
        /// Where the outcome goes.
        outcome: oneshot::Sender<OrderOutcome>,
    },
    /// Say what a switchover would do.
    PlanSwitchover {
        /// The pair.
        pair: PairName,
        /// The new primary; none: the member that is not primary.
        to: Option<AppName>,
        /// Where the plan goes; the error says what is wrong with the question.
        plan: oneshot::Sender<Result<Plan, String>>,
    },
    /// Copy what is known of a pair, to be thought about elsewhere.
    CopyPair {
        /// The pair.
        pair: PairName,
        /// Where the copy goes, with the time at which it was so; none: there is no such pair.
        copy: oneshot::Sender<Option<(Box<State>, Micros)>>,
    },
    /// Ask an application for one of its pages.
    Fetch {
        /// The application.
        app: AppName,
        /// The page.
        path: String,
        /// Where the page goes; the error says why there is none.
        page: oneshot::Sender<Result<String, String>>,
    },
    /// Put another configuration in force.
    Apply {
        /// All of it, checked.
        cluster: Box<Cluster>,
        /// Which one it is, for the log.
        what: String,
        /// Told when it is in force here; agents hear of it at the same moment.
        done: oneshot::Sender<()>,
    },
}

/// What happens, as it happens.
#[derive(Debug, Clone)]
pub enum LiveEvent {
    /// A log event was logged.
    Log(LogEvent),
    /// An incident began, went on or ended.
    Incident(Box<Incident>),
    /// The view changed: ask for the new one.
    ViewChanged,
}

/// Newest figures of a host, with the time at which they arrived.
pub type Figures = BTreeMap<HostName, (Micros, HostFigures)>;

/// What each host's agent showed when it connected last.
pub type Certificates = BTreeMap<HostName, Certificate>;

/// The core thread is gone: the SCS is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SCS is shutting down")]
pub struct Gone;

/// Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Handle {
    requests: Sender<Request>,
    wake: Arc<dyn Fn() + Send + Sync>,
    live: broadcast::Sender<LiveEvent>,
    view: Arc<Mutex<Arc<View>>>,
    figures: Arc<Mutex<Figures>>,
    certificates: Arc<Mutex<Certificates>>,
    store: Store,
    configuration: Configuration,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("store", &self.store.path()).finish_non_exhaustive()
    }
}

impl Handle {
    /// A handle whose requests go to `requests`; `wake` is called behind each, so that the core thread looks.
    pub fn new(
        requests: Sender<Request>,
        wake: Arc<dyn Fn() + Send + Sync>,
        store: Store,
        configuration: Configuration,
    ) -> Self {
        let (live, _) = broadcast::channel(LIVE_EVENTS);
        let (view, figures, certificates) = Default::default();
        Self { requests, wake, live, view, figures, certificates, store, configuration }
    }

    /// The newest view. At most 50 ms old while things change, and not older than the last change otherwise.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Newest figures of each host.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The certificates of the agents that connected since the SCS started.
    #[must_use]
    pub fn certificates(&self) -> Certificates {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<LiveEvent> {
        self.live.subscribe()
    }

    /// The records.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The configuration.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Carries out an operator's order; resolves when it is decided, not when a switchover is over.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn order(&self, order: OperatorOrder, by: By) -> Result<OrderOutcome, Gone> {
        let (outcome, receiver) = oneshot::channel();
        self.ask(Request::Order { order, by, outcome })?;
        receiver.await.map_err(|_| Gone)
    }

    /// What a switchover would do.
    ///
    /// # Errors
    /// [`Gone`]; the inner error says what is wrong with the question.
    pub async fn plan_switchover(
        &self,
        pair: PairName,
        to: Option<AppName>,
    ) -> Result<Result<Plan, String>, Gone> {
        let (plan, receiver) = oneshot::channel();
        self.ask(Request::PlanSwitchover { pair, to, plan })?;
        receiver.await.map_err(|_| Gone)
    }

    /// What the core knows of a pair, and when; none: there is no such pair.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn copy_of_pair(&self, pair: PairName) -> Result<Option<(Box<State>, Micros)>, Gone> {
        let (copy, receiver) = oneshot::channel();
        self.ask(Request::CopyPair { pair, copy })?;
        receiver.await.map_err(|_| Gone)
    }

    /// A page that an application shows at its HTTP address, fetched by its agent. How long to wait is for the caller to
    /// say.
    ///
    /// # Errors
    /// [`Gone`]; the inner error says why there is no page.
    pub async fn page(&self, app: AppName, path: String) -> Result<Result<String, String>, Gone> {
        let (page, receiver) = oneshot::channel();
        self.ask(Request::Fetch { app, path, page })?;
        receiver.await.map_err(|_| Gone)
    }

    /// Puts another configuration in force. Waits for the core thread: not for a thread that must not wait.
    pub(crate) fn apply(&self, cluster: Cluster, what: String) -> Result<(), Gone> {
        let (done, receiver) = oneshot::channel();
        self.ask(Request::Apply { cluster: Box::new(cluster), what, done })?;
        receiver.blocking_recv().map_err(|_| Gone)
    }

    fn ask(&self, request: Request) -> Result<(), Gone> {
        self.requests.send(request).map_err(|_| Gone)?;
        (self.wake)();
        Ok(())
    }

    /// For the core thread: a new view is there.
    pub fn publish_view(&self, view: View) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        self.publish(LiveEvent::ViewChanged);
    }

    /// For the core thread: new figures of a host.
    pub fn publish_figures(&self, host: &HostName, at: Micros, figures: HostFigures) {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), (at, figures));
    }

    /// For the core thread: a host is no longer configured.
    pub fn forget_figures(&self, host: &HostName) {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }

    /// For the core thread: an agent connected, and showed this.
    pub fn publish_certificate(&self, host: &HostName, certificate: Certificate) {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), certificate);
    }

    /// For the core thread: something happened.
    pub fn publish(&self, event: LiveEvent) {
        // An error only says that nobody listens.
        let _ = self.live.send(event);
    }
}

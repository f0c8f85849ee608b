//! The handler: finds out whether the request is ours, admits it ([`admit`]), runs it ([`run`]), and returns the answer
//! to httpd.

use wsgi_httpd::module::Answer;
use wsgi_httpd::request::Request;

use super::ours::Ours;
use super::timeline::Timeline;
use super::{admit, run};

/// Answers the request, if it is ours.
pub(crate) fn handle(request: Request<'_>) -> Answer {
    let Some(ours) = Ours::find(request) else {
        return Answer::Declined;
    };
    let timeline = Timeline::begin(request, ours.app, ours.settings.slow_requests);
    let route = admit::admit(&ours);
    match route.and_then(|route| run::run(&ours, &route, &timeline)) {
        Ok(()) => {
            timeline.answered(request.status());
            Answer::Ok
        }
        Err(refused) => {
            let status = refused.tell(request, &timeline);
            timeline.answered(u16::try_from(status).unwrap_or_else(|_| request.status()));
            Answer::Status(status)
        }
    }
}

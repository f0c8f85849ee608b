//! How a request ends: no end makes httpd answer a second time, or takes a part of a response for the whole.

use super::*;
use crate::response::OUTCOMES;

/// Sends the frames and the end of a request with `outcome`.
fn end_after(client: &Client, frames: &[Vec<u8>], outcome: RunOutcome) -> Result<Exchanged, Lost> {
    answer(
        client,
        &[&frames.concat()[..], &end_of(outcome)].concat(),
        &[],
    )
}

fn is_violation(exchanged: Result<Exchanged, Lost>) -> bool {
    exchanged.is_err_and(|lost| matches!(lost.error, WireError::Violation(_)))
}

/// Before the head, an outcome says what httpd answers.
#[test]
fn ends_without_a_head() {
    for outcome in OUTCOMES {
        let exchanged = end_after(&Client::default(), &[], outcome);
        if matches!(outcome, RunOutcome::Responded | RunOutcome::GivenUp) {
            assert!(is_violation(exchanged), "{outcome:?}");
        } else {
            let ended = ended(outcome);
            let is_reusable = true;
            assert_eq!(exchanged, Ok(Exchanged::Ended { ended, is_reusable }));
        }
    }
}

/// After the head, the engine returns these outcomes only.
#[test]
fn ends_within_a_response() {
    for outcome in OUTCOMES {
        let client = Client::default();
        let begun = [good_head(), chunk(b"half", WriteEnd::Flush)];
        let exchanged = end_after(&client, &begun, outcome);
        let is_cut = client.calls.borrow().contains(&Call::Cut);
        match outcome {
            RunOutcome::Responded | RunOutcome::Failed | RunOutcome::ClientLeft => {
                let (ended, is_reusable) = (ended(outcome), true);
                assert_eq!(exchanged, Ok(Exchanged::Ended { ended, is_reusable }));
                // The caller ends the connection of a client that has left.
                assert_eq!(is_cut, outcome != RunOutcome::ClientLeft, "{outcome:?}");
            }
            _ => assert!(is_violation(exchanged) && !is_cut, "{outcome:?}"),
        }
    }
}

#[test]
fn ends_after_a_response() {
    for last in [chunk(b"", WriteEnd::EndNow), empty(Kind::Cut)] {
        for outcome in OUTCOMES {
            let client = Client::default();
            let exchanged = end_after(&client, &[good_head(), last.clone()], outcome);
            match outcome {
                RunOutcome::Responded | RunOutcome::ClientLeft => {
                    let (ended, is_reusable) = (ended(outcome), true);
                    assert_eq!(exchanged, Ok(Exchanged::Ended { ended, is_reusable }));
                }
                _ => assert!(is_violation(exchanged), "{outcome:?}"),
            }
            assert_eq!(client.calls.borrow().len(), 2);
        }
    }
}

/// The engine of a child would have returned `Failed`, from the failed call itself.
#[test]
fn a_response_that_httpd_could_not_send() {
    let end = chunk(b"x", WriteEnd::End);
    let flush = [chunk(b"x", WriteEnd::More), empty(Kind::Flush)].concat();
    let cut = [chunk(b"x", WriteEnd::More), empty(Kind::Cut)].concat();
    let refused = |fault| HostResult::failed(fault, "why");
    let done = HostResult::done(0);
    for (frames, results, outcome) in [
        (&end, vec![refused(Fault::Server)], RunOutcome::Failed),
        (
            &flush,
            vec![done, refused(Fault::Server)],
            RunOutcome::Failed,
        ),
        // The engine knows, and has ended the response itself.
        (&cut, vec![refused(Fault::Server)], RunOutcome::Responded),
        // The client does not take the rest.
        (&end, vec![refused(Fault::Gone)], RunOutcome::Responded),
        (&end, vec![refused(Fault::Answered)], RunOutcome::Responded),
        (&end, vec![HostResult::unwanted()], RunOutcome::Responded),
    ] {
        let client = Client::with_results(results);
        let frames = [good_head(), frames.clone()];
        let exchanged = end_after(&client, &frames, RunOutcome::Responded);
        let (ended, is_reusable) = (ended(outcome), true);
        assert_eq!(exchanged, Ok(Exchanged::Ended { ended, is_reusable }));
    }
}

/// A body that could not be read is the application's to answer.
#[test]
fn a_body_that_httpd_could_not_read() {
    let client = Client::default();
    client
        .body
        .borrow_mut()
        .push_back(Err((Fault::Server, "why")));
    let exchanged = run_simple(&client, |remote| {
        assert_eq!(remote.read_body(&mut [0; 10]).fault, Fault::Server);
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"sorry")], WriteEnd::End);
        RunOutcome::Responded
    });
    assert_eq!(exchanged, Ok(ENDED));
}

/// A response that nothing has ended is cut, unless httpd has refused it before.
#[test]
fn a_response_without_its_end() {
    let refusals = [
        HostResult::unwanted(),
        HostResult::failed(Fault::Gone, ""),
        HostResult::failed(Fault::Answered, ""),
    ];
    for (results, is_cut) in [(vec![], true)]
        .into_iter()
        .chain(refusals.map(|refusal| (vec![refusal], false)))
    {
        let client = Client::with_results(results);
        let frames = [good_head(), chunk(b"half", WriteEnd::Flush)];
        let exchanged = end_after(&client, &frames, RunOutcome::Responded);
        assert_eq!(exchanged, Ok(ENDED));
        assert_eq!(client.calls.borrow().contains(&Call::Cut), is_cut);
    }
}

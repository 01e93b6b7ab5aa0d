//! What fuzzing checks of DNS messages; part of no other build.

use crate::dns::message::{Query, Rcode, UpstreamResponse};
use crate::dns::zone::{Answer, Zone};

/// Reads `message` as a query and as a response, and checks that what is written of either reads as the same.
///
/// # Panics
/// It does not.
pub fn dns_message(message: &[u8], zone: &Zone) {
    if let Ok(query) = Query::decode(message) {
        if let Answer::Reply(response) | Answer::Alias { so_far: response, .. } =
            zone.answer(&query.question, message.len())
        {
            let limit = query.udp_limit();
            let reply = query.respond(&response, limit);
            assert!(reply.len() <= limit, "{} bytes where {limit} are allowed", reply.len());
            let read = UpstreamResponse::decode(&reply).expect("a reply can be read");
            assert_eq!((read.id, &read.question), (query.id, &query.question));
            assert!(read.truncated || read.response.answers == response.answers);
        }
        let forwarded = Query::upstream(query.id, query.question.clone(), false, query.checking_disabled);
        assert_eq!(Query::decode(&forwarded.encode()).as_ref(), Ok(&forwarded));
    }
    if let Ok(read) = UpstreamResponse::decode(message) {
        let query = Query::upstream(read.id, read.question.clone(), false, false);
        let written = query.respond(&read.response, usize::from(u16::MAX));
        let again = UpstreamResponse::decode(&written).expect("what was written can be read");
        assert_eq!(again.question, read.question);
        if !again.truncated && !matches!(read.response.rcode, Rcode::BadVers) {
            assert_eq!(again.response.answers, read.response.answers);
            assert_eq!(again.response.rcode, read.response.rcode);
        }
    }
}

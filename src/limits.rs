//! Every bound, with its reason. Nothing here is read from outside; what operators may set lives in `config`.

use std::time::Duration;

// --- DNS engine (design §6). Unbound, BIND, PowerDNS and Knot sit at 32–200 queries, 8–32 signature checks,
// 32–600 NSEC3 hashes, 50–150 iterations.

/// Upstream queries one lookup may cause, all that it needs included (NXNS, CVE-2020-8616 and kin).
pub const UPSTREAM_QUERIES_PER_LOOKUP: u32 = 100;
/// Packets a whole policy question may cause, over all its lookups, with keys and addresses of name servers: the 50 hosts
/// of an MX RRset may all be somebody else's, who must not get more than that from us for one mail to a stranger.
pub const SCOPE_PACKETS: u32 = 250;
/// Of these, packets to one address that has not answered any: enough for every host's first question, and no flood for
/// whoever does not serve DNS there.
pub const SCOPE_PACKETS_TO_SILENT: u32 = 30;
/// Referrals one lookup may follow.
pub const REFERRALS_PER_LOOKUP: u32 = 30;
/// CNAME and DNAME hops of one lookup; Unbound follows 11.
pub const ALIAS_HOPS: usize = 11;
/// Name servers without glue that are resolved for one delegation (NXNS fan-out).
pub const GLUELESS_NS_PER_DELEGATION: usize = 5;
/// Keys with the same tag and algorithm tried for one RRSIG (KeyTrap, CVE-2023-50387).
pub const KEYS_PER_TAG: usize = 4;
/// RRSIGs tried for one RRset (KeyTrap).
pub const RRSIGS_PER_RRSET: usize = 8;
/// Signature checks of one lookup.
pub const SIGNATURE_CHECKS_PER_LOOKUP: u32 = 64;
/// Failed signature checks of one lookup.
pub const FAILED_SIGNATURE_CHECKS_PER_LOOKUP: u32 = 16;
/// NSEC3 iterations above which a zone is treated as insecure (RFC 9276 §3.2).
pub const NSEC3_ITERATIONS: u16 = 150;
/// Blocks of 64 octets that one lookup puts through SHA-1 for NSEC3 (CVE-2023-50868): a few milliseconds. Blocks cost,
/// not names: 64 short names at [`NSEC3_ITERATIONS`] are within it, and so are some twenty proofs about names of 127
/// labels, each of which is hashed, in a zone with the one hash that RFC 9276 §3.1 wants.
pub const NSEC3_BLOCKS_PER_LOOKUP: u32 = 10_000;
/// Largest response that is read.
pub const RESPONSE_BYTES: usize = 65_535;
/// Records of one RRset.
pub const RECORDS_PER_RRSET: usize = 500;
/// Options in one OPT record.
pub const EDNS_OPTIONS: usize = 100;
/// Lookups under way at once; more fail at once with "overloaded".
pub const LOOKUPS_IN_FLIGHT: usize = 10_000;
/// UDP payload we announce and send without fragmentation (DNS flag day 2020, RFC 9715).
pub const EDNS_UDP_PAYLOAD: u16 = 1232;
/// Longest time any cached RRset is kept, whatever its TTL (RFC 8767 §4 suggests a week as a maximum).
pub const MAX_TTL: u32 = 86_400;
/// Longest time a negative answer is kept (RFC 2308 §5 suggests one to three hours).
pub const MAX_NEGATIVE_TTL: u32 = 3_600;
/// Failure cache: first interval, doubled at each further failure (RFC 9520 §3.2: at least 1 s).
pub const FAILURE_TTL_MIN: Duration = Duration::from_secs(1);
/// Failure cache: longest interval (RFC 9520 §3.2: at most 5 min).
pub const FAILURE_TTL_MAX: Duration = Duration::from_secs(300);
/// The same where no server answered: a name is asked for again this soon after its servers' return.
pub const SILENCE_TTL_MAX: Duration = Duration::from_secs(5);
/// The same for the root's own records: everything hangs on them, so a network that is back is noticed soon.
pub const ROOT_FAILURE_TTL_MAX: Duration = Duration::from_secs(4);

// --- Trust anchor and root hint files.

/// Keys of one zone that are followed at once; the root has had at most three.
pub const ANCHOR_KEYS: usize = 16;
/// Largest such file that is read; IANA's are below 4 KiB.
pub const ANCHOR_FILE_BYTES: u64 = 1 << 20;

// --- Exchanges with upstream servers (`resolver::servers`, `resolver::transport`).

/// Tries at the servers of one zone for one question. With three packets in ten lost each way, twelve leave one
/// question in 3,000 without an answer; Unbound tries up to 16 times.
pub const TRIES_PER_QUESTION: u32 = 12;
/// Tries where every server of the zone has been silent for long: enough to notice that one is back.
pub const TRIES_AT_SILENT_SERVERS: u32 = 4;
/// Tries of one question that are listened to at once; the wait is longer than the pace of retransmission.
pub const TRIES_OPEN: usize = 8;
/// Wait for the first answer of a server that was never asked; Unbound 376 ms, BIND 800 ms.
pub const FIRST_TIMEOUT: Duration = Duration::from_millis(400);
/// Least slack above the smoothed round trip before a query is sent again.
pub const RETRANSMIT_SLACK: Duration = Duration::from_millis(100);
/// Longest wait before a query is sent again.
pub const RETRANSMIT_MAX: Duration = Duration::from_secs(3);
/// How long an answer to one datagram is listened for, while others are sent.
pub const DATAGRAM_PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams from a server's address that do not fit a query, after which nothing but TCP is believed: somebody may be
/// guessing (RFC 5452 §9.1; Unbound's `unwanted-reply-threshold` is of the kind). Each costs a forger one packet in 2^32.
pub const MISFITS_PER_EXCHANGE: u32 = 30;
/// Wait for answers after the last try of a question.
pub const LAST_PATIENCE: Duration = Duration::from_millis(1_600);
/// Longest wait for an answer over TCP, connecting included.
pub const TCP_PATIENCE: Duration = Duration::from_secs(8);
/// Servers about which something is remembered.
pub const SERVERS_REMEMBERED: usize = 20_000;
/// Probes of silent servers under way at once.
pub const PROBES_IN_FLIGHT: usize = 32;
/// UDP sockets towards servers at once; each takes a descriptor and a port. Fewer where fewer than [`DESCRIPTORS`] may be
/// open, and so with TCP connections.
pub const UPSTREAM_UDP_SOCKETS: usize = 4_096;
/// Of them towards one address: with answers within 20 ms that is 12,000 questions a second.
pub const UPSTREAM_UDP_SOCKETS_PER_SERVER: usize = 256;
/// Of them for one question: a lookup with all that it causes, or all lookups of one policy question. An ordinary one has a
/// few dozen open at once at most; sixty with silent servers alone leave room for others.
pub const UPSTREAM_UDP_SOCKETS_PER_QUESTION: usize = 64;
/// How long an exchange has its socket or connection for itself where places are short; then whoever waits for one gets
/// that which has gone longest without use. Most servers answer by then, and the question to the others goes out again.
pub const PLACE_HELD: Duration = Duration::from_millis(150);
/// Open files that all limits together can need, generously: the soft limit is raised to it.
pub const DESCRIPTORS: u64 = 16_384;
/// Datagrams to our DNS listener that are larger are cut off, and so malformed.
pub const UDP_RECEIVE_BYTES: usize = 4_096;
/// TCP connections towards servers at once.
pub const UPSTREAM_TCP_CONNECTIONS: usize = 1_024;
/// Of them towards one address: one is enough, and forwarders may share an address under several names (TLS).
pub const UPSTREAM_TCP_CONNECTIONS_PER_SERVER: usize = 4;
/// Of them for one question, see [`UPSTREAM_UDP_SOCKETS_PER_QUESTION`]; most need one or two.
pub const UPSTREAM_TCP_CONNECTIONS_PER_QUESTION: usize = 16;
/// Queries under way on one TCP connection (RFC 7766 §6.2.1.1); BIND's servers allow 23 to 1,000.
pub const QUERIES_PER_TCP_CONNECTION: usize = 64;
/// How long a TCP connection without queries is kept (RFC 7766 §6.2.3: a few seconds).
pub const UPSTREAM_TCP_IDLE: Duration = Duration::from_secs(5);

// --- Validation (design §6).

/// NSEC and NSEC3 RRsets of one response whose signatures are checked. A denial needs at most three, and a
/// response holds a few denials where aliases lead through several zones.
pub const DENIAL_RRSETS_PER_RESPONSE: usize = 16;

// --- Policies (design §3 to §5, §7).

/// Octets of an MTA-STS policy; RFC 8461 §3.3 suggests 64 KiB.
pub const STS_POLICY_BYTES: usize = 65_536;
/// Octets of the header of a policy host's response.
pub const STS_HEADER_BYTES: usize = 65_536;
/// Lines of that header.
pub const STS_HEADER_LINES: usize = 2_000;
/// Octets of a proxy's answer to CONNECT.
pub const PROXY_RESPONSE_BYTES: usize = 8_192;
/// How long the slower address family is waited for once the other is there (RFC 8305 §3).
pub const STS_RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// Whole fetch of a policy, from the address lookup to the last octet, all tries (RFC 8461 §3.3 suggests a
/// minute).
pub const STS_FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// One TCP connection to a policy host: three silent tries end within `policy.timeout`.
pub const STS_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Head start of one address before the next is tried as well (RFC 8305 §5).
pub const STS_CONNECT_HEAD_START: Duration = Duration::from_millis(250);
/// Head start of an address that is connected before the next is tried as well: TLS and answer take three round trips,
/// and of eight addresses all get their turn within a minute, several within the time that a mail waits.
pub const STS_ANSWER_HEAD_START: Duration = Duration::from_secs(1);
/// How long an error that one address gave waits for another address to do better.
pub const STS_BETTER_WAIT: Duration = Duration::from_secs(3);
/// Policy hosts of which the address that worked is remembered; about 200 octets each.
pub const STS_HOSTS_REMEMBERED: usize = 4_096;
/// Octets of a header field that an error quotes.
pub const STS_QUOTED_BYTES: usize = 80;
/// Addresses of a policy host that are tried, both families together.
pub const STS_ADDRESSES: usize = 8;
/// Connections to policy hosts at once; each takes a descriptor. Who comes when all are taken gets that which has been
/// open longest.
pub const STS_CONNECTIONS: usize = 2_048;
/// And of them to one address (IPv6: one /64), which may be the policy host of many domains: a round trip each, so hundreds
/// in a second.
pub const STS_CONNECTIONS_PER_ADDRESS: usize = 64;
/// Fetches that wait for a connection to one address; more fail, and are tried again soon.
pub const STS_WAITING_PER_ADDRESS: usize = 448;
/// Tries within one lookup where the network fails (a lost packet leaves no domain unprotected).
pub const STS_NETWORK_TRIES: u32 = 3;
/// Pause before the second try; the third waits four times as long, past the resolver's failure cache.
pub const STS_NETWORK_PAUSE: Duration = Duration::from_millis(300);
/// No further try begins later than this in a lookup, so that a mail does not wait for it.
pub const STS_NETWORK_TRY_WITHIN: Duration = Duration::from_secs(15);
/// Back-off after an HTTP or certificate error or an invalid policy: first and longest (RFC 8461 §3.3).
pub const STS_BACKOFF: (u32, u32) = (300, 3_600);
/// Back-off after a failure of the network: first and longest, in seconds.
pub const STS_NETWORK_BACKOFF: (u32, u32) = (30, 300);
/// The TXT record is asked for again after its TTL, at least and at most these seconds.
pub const STS_RECORD_TTL: (u32, u32) = (60, 86_400);
/// A policy is fetched again at least this often (RFC 8461 §10.2 suggests once per day).
pub const STS_REFRESH: u32 = 86_400;
/// A mail for a domain with a policy in force waits this long for the TXT record to be checked again.
pub const STS_RECHECK_WAIT: Duration = Duration::from_secs(5);
/// MX hosts looked at; Postfix itself tries 5 by default (`smtp_mx_address_limit`).
pub const MX_HOSTS: usize = 50;
/// MX hosts looked at side by side in one evaluation.
pub const MX_HOSTS_AT_ONCE: usize = 16;
/// Part of `policy.timeout` after which slow MX hosts count as unknown where the others carry a verdict.
pub const SLOW_HOST_PERCENT: u32 = 75;
/// Wait for further MX hosts once nothing they say can change the verdict, only how long it is kept.
pub const SETTLED_HOST_WAIT: Duration = Duration::from_millis(500);
/// Wait for the addresses of an MX host before it is looked whether its zone is signed at all: longer than servers that are
/// well need, much shorter than silent ones take.
pub const HOST_ZONE_WAIT: Duration = Duration::from_millis(1_500);
/// DANE branch: least and greatest TTL in seconds.
pub const DANE_TTL: (u32, u32) = (60, 86_400);
/// Greatest TTL of a denial in a DANE branch (RFC 2308 §5 suggests one to three hours).
pub const DANE_NEGATIVE_TTL: u32 = 3_600;
/// Greatest TTL of a DANE branch where something is unknown.
pub const DANE_UNKNOWN_TTL: u32 = 300;
/// A temporary failure is remembered this long: Postfix asks once per MX host and once per parent.
pub const TEMPORARY_TTL: u32 = 10;
/// The same where nothing answered: that may be our own network, and both branches are to be right 5 s after its return.
pub const UNREACHED_TTL: u32 = 3;
/// Next hops being evaluated at once; one more takes the place of that which has been so longest, or gets TEMP.
pub const POLICY_LOOKUPS: usize = 4_096;
/// How long an evaluation has its place for itself: most are done by then.
pub const POLICY_LOOKUP_HELD: Duration = Duration::from_secs(3);
/// How long a client waits for a reply: as long as Postfix does.
pub const SOCKETMAP_PATIENCE: Duration = Duration::from_secs(100);
/// Octets of a reply: Postfix reads no more, and fails the lookup after it too.
pub const REPLY_BYTES: usize = 100_000;
/// Octets of a reason in TEMP and PERM: Postfix logs no more.
pub const REASON_BYTES: usize = 200;
/// Parts of the policy cache, each with a lock of its own; also bounds what one eviction looks through.
pub const CACHE_SHARDS: usize = 256;
/// Parts of the policy cache that one eviction compares.
pub const CACHE_EVICTION_SAMPLE: usize = 2;
/// Seconds for which a policy counts as seen at least, however short it was valid: `policy.on-failure` says nothing about
/// its domain for so long (design §11).
pub const POLICY_SEEN: u32 = 86_400;
/// One part in so many of the policy cache, in entries and in octets of memory and disk, is for the names of one zone.
pub const CACHE_ZONE_SHARE: usize = 16;
/// In eviction, each doubling of an entry's hits makes up for this much time without any.
pub const CACHE_FREQUENCY_BONUS: Duration = Duration::from_secs(1_800);
/// What expired is forgotten this long after, so that a clock wrong for a while throws nothing away.
pub const POLICY_EXPIRED_KEPT: Duration = Duration::from_secs(86_400);
/// Octets of the policy cache per entry that `cache.max-entries` allows, on average.
pub const CACHE_BYTES_PER_ENTRY: usize = 4_096;
/// Different MTA-STS policies, or texts, in the cache before it is first looked which of them nobody has any more.
pub const POLICY_POOL_SWEEP: usize = 1_024;
/// Least time before its end at which a used entry is renewed; more than one round over the cache takes.
pub const PREFETCH_LEAD: Duration = Duration::from_secs(6);
/// How long after its end a used entry is still renewed without a query.
pub const PREFETCH_AFTER: Duration = Duration::from_secs(30);
/// How often the cache is looked through for what is to be renewed, a part at a time.
pub const PREFETCH_TICK: Duration = Duration::from_secs(1);
/// Parts of the cache per tick: all of it every four seconds.
pub const PREFETCH_SHARDS_PER_TICK: usize = 64;
/// Renewals begun per tick.
pub const PREFETCH_PER_TICK: usize = 40;
/// Renewals under way at once.
pub const PREFETCH_AT_ONCE: usize = 32;
/// How long a renewal has its place; then it goes on without, and no second one of the same name begins.
pub const PREFETCH_HELD: Duration = Duration::from_secs(2);
/// Renewals that go on without a place and are still counted when they end.
pub const PREFETCH_SLOW: usize = 1_024;
/// And of the names of one zone.
pub const PREFETCH_PER_ZONE: usize = PREFETCH_AT_ONCE / 4;
/// Renewals that wait; what does not fit is found again in the next round.
pub const PREFETCH_QUEUE: usize = 1_024;
/// A failed MTA-STS lookup is retried in the background for this long after the last query.
pub const PREFETCH_RETRY_FOR: Duration = Duration::from_secs(3_600);
/// First wait after a failed renewal of a DANE branch, doubled up to eight times.
pub const PREFETCH_BACKOFF: Duration = Duration::from_secs(5);

// --- Zone cuts, keys and lookups (`resolver`).

/// Name servers whose addresses are looked up one inside the other (a name server's name served by a name
/// server that must be looked up, and so on).
pub const REACH_DEPTH: usize = 4;
/// The root's name servers are asked for no more often than this, in seconds.
pub const ROOT_MIN_TTL: u32 = 300;
/// One part in so many of `resolver.cache-bytes` is for zone cuts; one takes some 700 octets.
pub const ZONE_CUTS_SHARE: usize = 16;
/// One part in so many is for the keys of zones, some 500 octets for each zone. The rest is for RRsets.
pub const ZONE_KEYS_SHARE: usize = 16;
/// One part in so many of what is for RRsets is for those that nobody has asked for twice.
pub const ASKED_ONCE_SHARE: usize = 8;
/// Names known to be no zone cut, and likewise addresses of name servers; some 200 octets each.
pub const NAMES_KEPT: usize = 5_000;
/// Denials kept as they were heard, until somebody wants them proven; some 2 KiB each.
pub const UNPROVEN_DENIALS: usize = 512;
/// How long. Postfix asks its resolver within a second of asking for a policy.
pub const UNPROVEN_FOR: Duration = Duration::from_secs(10);
/// Of how many such denials it is remembered that there was one; some 50 octets each.
pub const UNPROVEN_CLAIMS: usize = 20_000;
/// Failed questions remembered.
pub const FAILURES_KEPT: usize = 10_000;
/// Other servers asked after an answer that does not validate; more would let one bogus zone ask the world.
pub const BOGUS_RETRIES: usize = 4;
/// Longest time one lookup may take; Postfix waits 100 s, a policy lookup 20 s, and what comes later still
/// fills the cache.
pub const LOOKUP_TIME: Duration = Duration::from_secs(25);

// --- Socketmap (design §3).

/// Longest request, netstring framing not counted: Postfix's own limit.
pub const SOCKETMAP_REQUEST_BYTES: usize = 10_000;
/// Unanswered input one connection may have here: one request of the longest kind, or hundreds of usual ones.
pub const SOCKETMAP_INPUT_BYTES: usize = 16 * 1024;
/// Unsent replies one connection may have here before no more of its requests are taken.
pub const SOCKETMAP_OUTPUT_BYTES: usize = 64 * 1024;
/// Lookups of one connection under way at once; Postfix sends one at a time.
pub const SOCKETMAP_PIPELINE: usize = 128;
/// A connection without a request; Postfix drops it after 10 s by itself (ipc_idle in socketmap clients).
pub const SOCKETMAP_IDLE: Duration = Duration::from_secs(300);
/// A request that is not completed, or replies that are not read.
pub const SOCKETMAP_SLOW: Duration = Duration::from_secs(30);
/// How often a connection looks at the clock for the two above.
pub const SOCKETMAP_TICK: Duration = Duration::from_secs(5);
/// Threads that serve connections; a core answers some hundred thousand requests a second.
pub const SOCKETMAP_THREADS: usize = 4;
/// How long a connection that just came has before it must make room because it never asked anything: a client sends its
/// request as soon as it is connected.
pub const PLACE_GRACE: Duration = Duration::from_millis(20);
/// A newcomer is made to wait for that no more often than this; otherwise whoever is idle longest goes.
pub const PLACE_GRACE_PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond the limit that were told to leave and have not gone yet.
pub const PLACES_LEAVING: usize = 64;
/// At the end, how long is looked for requests that were sent before, but not read yet.
pub const SOCKETMAP_LAST_LOOK: Duration = Duration::from_millis(50);
/// Pause after a connection could not be accepted (out of descriptors): time for others to end.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections the kernel holds until they are accepted.
pub const LISTEN_BACKLOG: i32 = 1024;

// --- Memory of the process (`daemon::memory`).

/// How often the size of the process is looked at.
pub const MEMORY_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// So much more than the least it ever had, in octets, and memory is given back. To look through an arena of a hundred
/// mebibytes takes some five milliseconds, and to fetch this much from the system again two.
pub const MEMORY_SLACK: u64 = 16 << 20;
/// Less than this, in octets, was not worth it: the rest is in use, and the next time is later.
pub const MEMORY_WORTH_IT: u64 = 4 << 20;
/// Looks that are passed over at most: half a minute.
pub const MEMORY_PAUSE_MOST: u32 = 6;

// --- HTTP (design §9).

/// How long an exchange that has begun may go on after shutdown began.
pub const HTTP_DRAIN: Duration = Duration::from_secs(1);
/// Header of a request.
pub const HTTP_HEADER_BYTES: usize = 8 * 1024;
/// Time for it to arrive.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection, kept alive or slow to read.
pub const HTTP_CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Connections at once.
pub const HTTP_CONNECTIONS: usize = 64;

// --- DNS service for Postfix (`listener`).

/// Queries under way at once for one client; Postfix with 100 deliveries has some 300.
pub const DNS_QUERIES_PER_CLIENT: usize = 1_000;
/// Queries under way at once.
pub const DNS_QUERIES: usize = 4_000;
/// TCP connections at once, and of them from one client.
pub const DNS_CONNECTIONS: usize = 256;
/// See [`DNS_CONNECTIONS`].
pub const DNS_CONNECTIONS_PER_CLIENT: usize = 64;
/// Queries under way on one TCP connection; further ones wait in the kernel's buffer (RFC 7766 §6.2.1.1).
pub const DNS_QUERIES_PER_CONNECTION: usize = 64;
/// How long a TCP connection may be idle, or take to send or receive one message (RFC 7766 §6.2.3).
pub const DNS_TCP_IDLE: Duration = Duration::from_secs(10);
/// Largest UDP answer to a client on this host, where nothing fragments; others get [`EDNS_UDP_PAYLOAD`].
pub const DNS_LOOPBACK_PAYLOAD: u16 = 4_096;
/// REFUSED answers in a second, over all strangers; more would make us a mirror for forged queries.
pub const DNS_REFUSALS_PER_SECOND: u32 = 200;
/// TCP connections of strangers at once: those of clients are not theirs to take.
pub const DNS_STRANGERS: usize = 16;
/// How long a stranger's connection has for its one question and its REFUSED.
pub const DNS_STRANGER_TIME: Duration = Duration::from_secs(2);
/// Datagrams in a second that one client elsewhere (an IPv6 /64 is one) is answered in full; as many again are answered
/// with TC, since a sender that is forged cannot come back over TCP, and what comes on top is dropped. Fifty times what
/// a Postfix sends that delivers a hundred mails a second. This host's own addresses cannot be forged from elsewhere.
pub const DNS_ANSWERS_PER_SECOND: u32 = 50_000;
/// Clients whose datagrams are counted one by one; in a second with more, the rest share one count.
pub const DNS_PACED_CLIENTS: usize = 10_000;

// --- Store (design §7).

/// Names in a state directory that are looked at before it is closed to others; there are a dozen of ours.
pub const STATE_DIRECTORY_ENTRIES: usize = 1_000;

/// Longest key of a stored entry: a next hop in text form, or the name of a blob.
pub const STORE_KEY_BYTES: usize = 1024;
/// Largest stored value: a policy of 64 KiB, its lines and names stored beside it, with room to spare.
pub const STORE_VALUE_BYTES: usize = 1024 * 1024;
/// Policy texts longer than this are stored once, in a file of their own; a file takes 4 KiB at least.
pub const STORE_TEXT_BYTES: usize = 2_048;
/// Octets of a stored record beside its names and texts.
pub const STORE_RECORD_BYTES: usize = 80;
/// A record stands on disk so many times at most: in the log, as much out of date beside it as is alive, and in the
/// keyspace, in two tables until they are merged.
pub const STORE_RECORD_TIMES: usize = 4;
/// Octets that the store takes beside that: the keyspace's journal, and [`STORE_LOG_SLACK`].
pub const STORE_FIXED_BYTES: usize = 68 * 1024 * 1024;
/// One part in so many of `cache.max-bytes` is for entries, however small that is.
pub const STORE_LEAST_SHARE: usize = 4;
/// Changes that wait for the disk; one per key, so this is reached only while the disk fails for long and
/// the cache turns over. Beyond it nothing new is queued, and that is logged and counted.
pub const STORE_PENDING: usize = 400_000;
/// How long changes that nobody waits for are gathered before they are written together.
pub const STORE_LINGER: Duration = Duration::from_millis(500);
/// After a start from a log that is whole, the keyspace is compared with it this much later, or with the first change.
pub const STORE_CHECK_AFTER: Duration = Duration::from_secs(2);
/// How long a lookup waits for its policy to be durable; then the disk counts as failing. Well below
/// `policy.timeout`, so that a hanging disk holds no mail.
pub const STORE_SAVE_WAIT: Duration = Duration::from_secs(5);
/// Longest log that is read in one piece at a start: some 500,000 entries. Longer ones are read record by record.
pub const STORE_QUICK_BYTES: u64 = 192 * 1024 * 1024;
/// How long the keyspace may take to open and read. 100,000 entries take about a second; the log has them too.
pub const STORE_OPEN_WAIT: Duration = Duration::from_secs(60);
/// How long one write to the keyspace may take; a disk that hangs longer counts as failing.
pub const STORE_WRITE_WAIT: Duration = Duration::from_secs(30);
/// First wait after a failed write, doubled up to [`STORE_RETRY_MAX`].
pub const STORE_RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest wait between attempts to write again.
pub const STORE_RETRY_MAX: Duration = Duration::from_secs(15);
/// How often a failing store says so.
pub const STORE_COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Octets of overwritten records the log may hold beyond as many as are alive, before it is rewritten.
pub const STORE_LOG_SLACK: u64 = 4 * 1024 * 1024;
/// Records written to the keyspace as one batch, which stands in memory twice.
pub const STORE_BATCH: usize = 1_000;
/// Damaged stores that are kept for inspection.
pub const STORE_MOVED_ASIDE: usize = 2;

// --- Shared store of many replicas (`cache::shared`).

/// How long a lookup waits for the shared store, beside its own TXT lookup; then it is left alone for a while.
pub const SHARED_READ_WAIT: Duration = Duration::from_millis(500);
/// One write, one connection, one handshake; nobody waits for it.
pub const SHARED_STEP_WAIT: Duration = Duration::from_secs(2);
/// Connecting as a whole: TLS, login, sentinels, the layout of a cluster.
pub const SHARED_CONNECT_WAIT: Duration = Duration::from_secs(6);
/// How long it is left alone after a failure: first, doubled for each in a row, and longest.
pub const SHARED_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often an idle connection is tried, so that no mail is the first to find it dead.
pub const SHARED_PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Changes that wait to be written, one per domain: as many as the cache holds by default. They take some 100 octets
/// each, the policies themselves are in the cache. Beyond it new ones are not shared, and that is counted.
pub const SHARED_PENDING: usize = 100_000;
/// Octets of an entry: a policy, and some for `id`, domain and framing. No more are read of any value.
pub const SHARED_VALUE_BYTES: usize = STS_POLICY_BYTES + 1_024;
/// Octets of one reply of a Redis server, its framing included; at the first one beyond, or at a length that promises
/// more, the connection is given up. Room for what others put in the place of an entry, so that it is skipped and written
/// over, for an error text, and for the layout of a large cluster.
pub const SHARED_REPLY_BYTES: usize = STORE_VALUE_BYTES + 2_048;
/// Nodes of a cluster that are connected to; each is one connection.
pub const SHARED_CLUSTER_NODES: usize = 1_000;
/// Times one question follows a cluster's word that another node has the key.
pub const SHARED_REDIRECTS: usize = 4;
/// Seconds by which the clock of another replica may be ahead of ours.
pub const SHARED_CLOCK_SKEW: i64 = 5;

// --- Explanations, for people (design §10).

/// Explanations under way at once for each user at the control socket, and for HTTP as a whole; each has a resolver of
/// its own that begins at the root.
pub const EXPLANATIONS: usize = 4;
/// Whole explanation without checks of MX hosts: what is not known by then is told as not known.
pub const EXPLAIN_TIME: Duration = Duration::from_secs(40);
/// How much of that is kept for the chain of trust.
pub const EXPLAIN_CHAIN_TIME: Duration = Duration::from_secs(6);
/// Octets of the RRset cache of one explanation.
pub const EXPLAIN_CACHE_BYTES: usize = 4 << 20;
/// Zones shown of the chains of trust of one explanation.
pub const EXPLAIN_ZONES: usize = 100;
/// Records of one RRset shown.
pub const EXPLAIN_RECORDS: usize = 32;

// --- Logs and status (design §12).

/// Lines about failures are counted for this long, then what was held back is summarised.
pub const LOG_PERIOD: Duration = Duration::from_secs(60);
/// Lines about failures in that time; a flood of broken names writes no more.
pub const LOG_LINES_PER_PERIOD: u32 = 60;
/// Lines for one reason before it is only counted.
pub const LOG_LINES_PER_REASON: usize = 5;
/// Reasons that are counted apart.
pub const LOG_REASONS: usize = 200;
/// Reasons that have a line of their own in a summary; the others share one.
pub const LOG_SUMMARIES: usize = 5;
/// Lines about policies found in that time, and as many about policies lost: more than any server learns, and a bound
/// all the same.
pub const LOG_POLICIES_PER_PERIOD: u32 = 6_000;
/// What `status` calls recent.
pub const RECENT_PERIOD: Duration = Duration::from_secs(3_600);
/// Reasons for failures that are counted there; the code knows some thirty.
pub const RECENT_REASONS: usize = 64;
/// Zones whose times are remembered.
pub const RECENT_ZONES: usize = 1_000;
/// Slowest zones shown.
pub const SLOW_ZONES_SHOWN: usize = 10;

// --- Health (design §9).

/// The root is looked at this often while it is well: one small question.
pub const ROOT_LOOK_INTERVAL: Duration = Duration::from_secs(300);
/// And this often while it fails, so that recovery shows at once.
pub const ROOT_LOOK_RETRY: Duration = Duration::from_secs(5);
/// How long a start waits for the state directory that another process has: longer than one that was told to stop drains.
pub const STATE_LOCK_WAIT: Duration = Duration::from_secs(60);
/// How often it is tried meanwhile: mail waits for whoever comes next.
pub const STATE_LOCK_RETRY: Duration = Duration::from_millis(100);
/// How long readiness waits for the root after a start. Later the root never counts for it: it would fail for all
/// replicas at once, and each still answers from what it holds, by overrides and from forward zones (design §9).
pub const ROOT_WAIT_AT_START: Duration = Duration::from_secs(60);
/// A part of the process that has not turned for this long counts as stuck; each turns every second.
pub const STUCK_AFTER: Duration = Duration::from_secs(20);

// --- Postfix.

/// How often Postfix's resolvers are looked at.
pub const RESOLVER_CHECK_INTERVAL: Duration = Duration::from_secs(3_600);
/// How long the first look waits for the root: our own DNS listener may be that resolver.
pub const RESOLVER_CHECK_PATIENCE: Duration = Duration::from_secs(60);

// --- Checks of MX hosts (`explain --check-mx`).

/// All checks of one explanation.
pub const CHECK_TIME: Duration = Duration::from_secs(60);
/// One connection to an MX host; Postfix waits 30 s (`smtp_connect_timeout`), people do not.
pub const CHECK_CONNECT_TIME: Duration = Duration::from_secs(8);
/// One step of the dialogue; servers that delay their greeting on purpose do so for less.
pub const CHECK_STEP_TIME: Duration = Duration::from_secs(15);
/// Addresses of one MX host that are connected to, both families together.
pub const CHECK_ADDRESSES: usize = 6;
/// Connections to MX hosts at once.
pub const CHECKS_AT_ONCE: usize = 8;
/// Octets of one reply line; RFC 5321 §4.5.3.1.5 has 512.
pub const SMTP_LINE_BYTES: usize = 2_048;
/// Lines of one reply.
pub const SMTP_REPLY_LINES: usize = 100;

// --- The process.

/// How long lookups that are under way may go on after SIGTERM; what is not done by then gets TEMP.
pub const DRAIN: Duration = Duration::from_secs(9);
/// How long those replies may take to be sent.
pub const LAST_REPLIES: Duration = Duration::from_millis(200);
/// How long the store may take after that to write what is queued; the whole end takes less than 10 s. What was queued
/// when the end began is written meanwhile.
pub const FLUSH: Duration = Duration::from_millis(500);
/// From SIGTERM (and the end of `shutdown.linger`) to the end, all waiting together: what the disk has not taken by then is not waited for.
pub const END: Duration = Duration::from_millis(9_900);
/// How often the main task shows that it turns.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause between two attempts to reach the root, in upkeep intervals.
pub const WARM_UP_PAUSE_MOST: u32 = 5;

// --- Control socket (design §10).

/// Connections at once; operators are few.
pub const CONTROL_CONNECTIONS: usize = 16;
/// Longest exchange: a lookup that has to wait, and a long dump read slowly.
pub const CONTROL_CONNECTION_TIME: Duration = Duration::from_secs(300);
/// Longest answer a client takes: a dump of all entries.
pub const CONTROL_RESPONSE_BYTES: usize = 256 << 20;

/// What a piece of memory of so many octets takes of the heap, so that bounds in octets are bounds of the process: glibc
/// adds a word of its own and gives multiples of two.
pub const fn allocated(octets: usize) -> usize {
    const WORD: usize = size_of::<usize>();
    let taken = (octets + WORD).next_multiple_of(2 * WORD);
    if taken < 4 * WORD { 4 * WORD } else { taken }
}

/// Likewise of so many octets in an [`Arc`](std::sync::Arc), which puts two counters before them.
pub const fn allocated_shared(octets: usize) -> usize {
    allocated(octets + 2 * size_of::<usize>())
}

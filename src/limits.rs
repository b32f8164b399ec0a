//! Every queue length, timeout, size and budget, each with the reason for its number and what happens when it is reached.
//! One section a room.

mod cli;
mod clients;
mod clouds;
mod doors;
mod external;
mod link;
mod policy;
mod sessions;
mod store;

use std::time::Duration;

pub use cli::*;
pub use clients::*;
pub use clouds::*;
pub use doors::*;
pub use external::*;
pub use link::*;
pub use policy::*;
pub use sessions::*;
pub use store::*;

// ---- clock ----

/// How long the kernel's word on whether the wall clock is set holds. Asking is a system call, and a reading needs it several times; a clock
/// that is stepped is asked about at once, and one that NTP takes in hand is called unset for so long at most.
pub const CLOCK_LOOK: Duration = Duration::from_secs(1);

// ---- config ----

/// Largest config file, includes counted singly. A gateway of 2,000 sensors takes 600 kB; a larger file is refused with its size.
pub const CONFIG_FILE_BYTES_MAX: u64 = 8 << 20;
/// Most files one config may include. More are refused: a pattern that catches a whole disk is a mistake.
pub const CONFIG_FILES_MAX: usize = 256;
/// Most mistakes of one config that are shown; the others are counted. Nobody reads on from here, and a file that is no config at all
/// must not fill a log.
pub const DIAGNOSTICS_TOLD_MAX: usize = 200;
/// Most steps that circles of rules are looked for. Ten bridges of ten rules that all feed each other take fewer; what is not found by then
/// is left to the broker's own exclusions, for no config may keep the check busy for long.
pub const RULE_STEPS_MAX: usize = 100_000;

// ---- shutdown: the stages and their budgets ----

/// Sensors stop taking in and flush what is in their pipelines.
pub const STOP_SENSORS: Duration = Duration::from_secs(2);
/// Actuators go to their safe states: one move, within its deadline.
pub const STOP_ACTUATORS: Duration = Duration::from_millis(2_500);
/// Serial ports that were open for actuators are closed: nothing is read or written any more, so a moment is enough.
pub const STOP_PORTS: Duration = Duration::from_millis(100);
/// Bridges say `offline` to the cloud and hand over what they can; the rest stays in the store.
pub const STOP_BRIDGES: Duration = Duration::from_secs(5);
/// The broker says goodbye to its clients and writes its retained messages.
pub const STOP_BROKER: Duration = Duration::from_secs(3);
/// The page and the control socket end last, so that a person can watch the stop: nothing waits for them.
pub const STOP_HTTP: Duration = Duration::from_secs(1);
/// What the gateway remembers is written and closed.
pub const STOP_STATE: Duration = Duration::from_secs(1);
/// `TimeoutStopSec` of the unit; the kill follows.
pub const STOP_TOTAL: Duration = Duration::from_secs(20);
const _: () = assert!(
    STOP_SENSORS.as_millis()
        + STOP_ACTUATORS.as_millis()
        + COMMAND_LAST_COMMIT.as_millis()
        + STOP_PORTS.as_millis()
        + STOP_BRIDGES.as_millis()
        + STOP_BROKER.as_millis()
        + STOP_HTTP.as_millis()
        + STOP_STATE.as_millis()
        < STOP_TOTAL.as_millis(),
    "the stages of a stop must end before systemd kills"
);

// ---- commands ----

/// Longest payload of a command, bytes: an id, a value and an expiry take a hundred. A longer one is rejected.
pub const COMMAND_BYTES_MAX: usize = 4_096;
/// Commands that wait for one actuator. When full, the next is answered `refused`: an output that is asked faster than it moves would move
/// long after it was meant to.
pub const COMMAND_QUEUE: usize = 16;
/// Longest a stopped actuator waits for the commit of a command that it had begun to note; without it the next start answers the command. As long,
/// at least, all of them together wait for the commit of their last answers.
pub const COMMAND_LAST_COMMIT: Duration = Duration::from_millis(300);
/// Longest a move of an output may take, its read-back included. I²C adapters give up a transfer after a second; a device that takes longer
/// counts as failed, and is waited for on a thread of its own.
pub const OUTPUT_DEADLINE: Duration = Duration::from_secs(2);
/// Longest the start waits for the outputs to be in their safe states before commands are let in. One that is not is offline.
pub const OUTPUT_START: Duration = Duration::from_secs(3);
/// Most words of an actuator on a serial port; more are a list, which belongs to the device.
pub const UART_WORDS_MAX: usize = 64;
/// Longest text of such a word on the wire, bytes: 256 take a quarter of a second at 9600 baud.
pub const UART_WORD_BYTES_MAX: usize = 256;
/// Words that wait for one serial port: one for each of its actuators, with room. When full, the next fails.
pub const SERIAL_WRITE_QUEUE: usize = 32;
/// Longest a port may take the bytes of one word. What is read waits so long with the kernel, which has room for 4 KiB.
pub const SERIAL_WRITE_PATIENCE: Duration = Duration::from_millis(500);
/// Longest an actuator waits for its word to be written, those before it included: within [`OUTPUT_DEADLINE`].
pub const SERIAL_WRITE_DEADLINE: Duration = Duration::from_millis(1_500);
/// Shortest pulse: below, the hop to a thread that may block and back is as long as the pulse.
pub const PULSE_MIN: Duration = Duration::from_millis(10);
/// Longest pulse: its answer comes when it has ended. What is to be on for longer is a switch with `max_on`.
pub const PULSE_MAX: Duration = Duration::from_secs(60);
/// First wait before an output that failed is tried again: a chip that missed one transfer is in its safe state within a fifth of a second.
pub const OUTPUT_RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest wait before an output that failed is tried again.
pub const OUTPUT_RETRY_MAX: Duration = Duration::from_secs(30);
/// How often an output that can be read back is: a chip that lost its power, or that another program has set, is noticed within so long.
pub const OUTPUT_CHECK: Duration = Duration::from_secs(10);

// ---- health: who makes progress, and what the watchdog is told ----

/// A part that has nothing to do beats so often all the same, and so often the parts are looked at. Twelve wake-ups a minute and part cost
/// next to nothing.
pub const PULSE_EVERY: Duration = Duration::from_secs(5);
/// A part that waits for no disk is late after so long: it has missed four beats. The log names it, and the watchdog is fed no more.
pub const PULSE_LIMIT: Duration = Duration::from_secs(20);
/// The same for a part that writes: an SD card may hold up a commit for tens of seconds while it tidies up, and a restart would not quicken it.
pub const PULSE_LIMIT_DISK: Duration = Duration::from_secs(60);
/// Looks at the parts that are further apart mean that the one who looks was held too: the board slept. Then the silence counts for nobody.
pub const PULSE_GAP: Duration = Duration::from_secs(15);
/// `WatchdogSec` of the unit: systemd kills and starts anew what has not fed it for so long.
pub const WATCHDOG: Duration = Duration::from_secs(30);
const _: () = assert!(
    2 * PULSE_EVERY.as_secs() <= PULSE_GAP.as_secs() && PULSE_GAP.as_secs() < PULSE_LIMIT.as_secs(),
    "a look that comes a little late must not excuse, and one that excuses must come before anyone is late"
);
const _: () = assert!(
    2 * PULSE_EVERY.as_secs() < WATCHDOG.as_secs(),
    "the watchdog must be fed well within its time (sd_watchdog_enabled(3): at half of it)"
);

// ---- app ----

/// Worker threads of the runtime that broker and sensors share. Two keep a board of two to four cores responsive; each bridge and each store has its own.
pub const RUNTIME_THREADS: usize = 2;

/// Events kept in memory for the page; older ones are with whoever subscribed to the event topic.
pub const EVENTS_KEPT: usize = 100;
/// Most bytes of an event's text that are kept; a longer one is cut.
pub const EVENT_TEXT_BYTES_MAX: usize = 300;

// ---- http: the page, the metrics and the control socket ----

/// Connections of the page at one time. One more is closed at once. A browser opens six.
pub const HTTP_CONNECTIONS_MAX: usize = 48;
/// Connections of the control socket at one time: its own, so that no crowd at the page keeps out who looks after the gateway. One more is
/// closed at once.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// A control socket that could not be made is tried again after so long: the disk it is to be on may be read-only for a time.
pub const CONTROL_AGAIN: Duration = Duration::from_secs(5);
/// Pages that are told of changes at one time. One more is answered 503 and tries again.
pub const HTTP_STREAMS_MAX: usize = 8;
/// Most bytes of a request's head; a longer one is answered 431. hyper takes no smaller limit.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 << 10;
/// Most header fields of a request; one with more is answered 431. Browsers send about twenty.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Most bytes of a request's body: a command is a line. A longer one is answered 413.
pub const HTTP_BODY_BYTES_MAX: usize = 4 << 10;
/// A request's head must have come by then, and a connection without a request is kept for so long; then it closes.
pub const HTTP_HEAD_WAIT: Duration = Duration::from_secs(20);
/// A request's body must have come by then; else it is answered 408.
pub const HTTP_BODY_WAIT: Duration = Duration::from_secs(5);
/// Longest a visitor waits for an actuator's answer; then it is answered 504, and the answer is told on the topic alone.
pub const HTTP_ANSWER_WAIT: Duration = Duration::from_secs(8);
/// A visitor that takes none of what is written to it for so long is closed.
pub const HTTP_WRITE_STALL: Duration = Duration::from_secs(20);
/// How often a page is told what changed: a person sees no difference to at once, and a sensor at 100 readings a second costs four updates.
pub const PAGE_TICK: Duration = Duration::from_millis(250);
/// Silence after which a page is told that the gateway is alive, and how old the values are. The page waits for three of them.
pub const PAGE_BEAT: Duration = Duration::from_secs(2);
/// Updates that wait for one page; when they are not taken, the page's stream ends and the browser asks anew.
pub const PAGE_QUEUE: usize = 8;
/// Longest path of a unix socket, its closing zero included (unix(7)). With a longer one there is no control socket, and a warning.
pub const SOCKET_PATH_BYTES_MAX: usize = 108;
/// Longest the command line waits for the daemon's answer.
pub const CONTROL_WAIT: Duration = Duration::from_secs(10);
/// Largest answer of the daemon that the command line takes: 2,000 sensors are 700 kB.
pub const CONTROL_ANSWER_BYTES_MAX: u64 = 16 << 20;

// ---- demo, and the subscriber it counts with ----

/// Read buffer of a subscriber; larger packets are read in pieces.
pub const SUBSCRIBER_BUFFER: usize = 16 << 10;
/// Longest wait of a subscriber for TCP and for CONNACK; then it tries again.
pub const SUBSCRIBER_CONNECT: Duration = Duration::from_secs(5);
/// Pause of a subscriber between two tries: short, since it counts for a person who watches.
pub const SUBSCRIBER_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a counter to be subscribed.
pub const DEMO_SEAT: Duration = Duration::from_secs(10);
/// Longest wait at the end for what is still on its way; then it is called lost.
pub const DEMO_DRAIN: Duration = Duration::from_secs(30);
/// Lines of the log that the screen keeps; older ones scroll out.
pub const DEMO_LOG_LINES: usize = 200;
/// How often the screen is drawn.
pub const DEMO_FRAME: Duration = Duration::from_millis(100);

// ---- sensors ----

/// Most bytes one read of a port takes: what a line discipline holds is 4 KiB, so one read can empty it. The rest waits in the kernel.
pub const PORT_READ_BYTES: usize = 4096;
/// First wait before an absent port is tried again. Short: most absences are a re-plug, and udev is done by then.
pub const PORT_RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest wait before an absent port is tried again; a change in its folder ends it early.
pub const PORT_RETRY_MAX: Duration = Duration::from_secs(30);
/// Least time between two tries that changes in the folder ask for: udev touches a new node several times within milliseconds.
pub const PORT_WATCH_GAP: Duration = Duration::from_millis(30);
/// A port that stayed open this long starts its back-off anew when it goes away. One that opens and fails at once does not: it would be opened
/// ten times a second for ever.
pub const PORT_STABLE: Duration = Duration::from_secs(10);
/// How often the kernel's count of line errors is looked at while bytes come. Ten seconds of a noisy line are one warning.
pub const PORT_ERRORS_LOOK: Duration = Duration::from_secs(10);
/// Links that are followed to find where a port may appear. by-id is one link; more than this is a loop.
pub const PORT_LINKS_MAX: usize = 8;
/// Bytes that come this soon after a port was opened may be the end of a line that began before.
pub const PORT_JOIN: Duration = Duration::from_millis(100);
/// First and longest wait before a bus, or an actuator, whose task panicked is started again.
pub const BUS_RESTART_MIN: Duration = Duration::from_millis(500);
/// See [`BUS_RESTART_MIN`].
pub const BUS_RESTART_MAX: Duration = Duration::from_secs(60);
/// How often a sensor is asked that does not say: a room's climate changes no faster.
pub const SENSOR_EVERY: Duration = Duration::from_secs(30);
/// Age from which a sensor that speaks by itself is stale, when the config does not say.
pub const SENSOR_AGE: Duration = Duration::from_secs(3600);
/// Intervals that may pass without a measurement before a sensor that is asked is stale: a failed one is told as a fault at once, so
/// this is met only where the bus itself hangs.
pub const SENSOR_AGE_POLLS: u32 = 3;
/// Time added to them, for sensors that are asked many times a second.
pub const SENSOR_AGE_SLACK: Duration = Duration::from_secs(10);
/// Tries of one measurement before it counts as failed: a single disturbed transaction is no news. A sensor that failed has one.
pub const SAMPLE_TRIES: u32 = 3;
/// Pause between them.
pub const SAMPLE_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause between two questions to a device that does not answer, or its interval where that is longer.
pub const SAMPLE_RETRY_MAX: Duration = Duration::from_secs(60);
/// Longest a measurement may take: a kernel call that has not returned by then holds the bus, and all its sensors are told as faulty. Longer
/// than the second that I²C adapters wait by default, three times over, and than any conversion.
pub const SAMPLE_DEADLINE: Duration = Duration::from_secs(10);
/// Steps of an `i2c-map`, for `init` and `steps` each; more are refused in the config.
pub const MAP_STEPS_MAX: usize = 32;
/// Bytes one step of an `i2c-map` writes or reads. No chip that needs no code has more in a row.
pub const MAP_BYTES_MAX: usize = 64;
/// Values of an `i2c-map`.
pub const MAP_VALUES_MAX: usize = 32;
/// Longest that all delays and polls of an `i2c-map` may take together, for `init` and `steps` each; a longer plan is refused in the config. Both fit
/// [`SAMPLE_DEADLINE`].
pub const MAP_WAIT_MAX: Duration = Duration::from_secs(4);
/// Most bytes of a formula: a screen line and more. A longer one is refused in the config.
pub const FORMULA_BYTES_MAX: usize = 1024;
/// Levels of a formula in one another; each takes a few frames of the stack. A deeper one is refused in the config.
pub const FORMULA_DEPTH_MAX: usize = 32;
/// A sensor that has given nothing for this long after start is `offline`: the `online` a broker kept from an earlier run would be a guess.
pub const SENSOR_FIRST_READING: Duration = Duration::from_secs(10);
/// Good frames in a row that end a time of bad ones. Fewer would turn a noisy line into two log lines a second.
pub const SENSOR_GOOD_FRAMES: u32 = 10;
/// Default and largest length of a line, its end not counted. A longer line is bad as a whole, and what follows its end is read again.
pub const LINE_BYTES: usize = 512;
/// See [`LINE_BYTES`].
pub const LINE_BYTES_MAX: usize = 65_536;
/// Most bytes that mark the end of a line.
pub const LINE_END_BYTES_MAX: usize = 8;
/// What a port said last, kept for a sensor that is changed in the middle of a line: a line of default length and the end before it. The
/// rest of a longer line is dropped as the first line after opening is.
pub const PORT_RECENT_BYTES: usize = LINE_BYTES + 2 * LINE_END_BYTES_MAX;
/// Most values one frame may yield; a frame with more is bad.
pub const FRAME_VALUES_MAX: usize = 256;
/// Memory of one compiled regular expression. A larger one is refused in the config.
pub const REGEX_BYTES_MAX: usize = 1 << 20;
/// Values a median looks at, at most.
pub const MEDIAN_MAX: usize = 31;
/// Largest file of recorded lines: it is held in memory. A larger one is a port that is away, told with its size.
pub const REPLAY_BYTES_MAX: u64 = 16 << 20;
/// Lines a second a simulated port makes, at most.
pub const SIMULATED_RATE_MAX: u32 = 10_000;

// ---- GPIO lines ----

/// Edges of a line that the kernel is asked to keep (version 2 of its interface; 1024 is the most it gives a line, version 1 has 16). 256 are
/// those of 100 pulses a second over the second that a busy board may be late. Beyond, the kernel drops the oldest, and they are counted.
pub const GPIO_KERNEL_EDGES: u32 = 256;
/// Edges taken at once. More wait for the next turn, so that a line that storms takes turns with everything else.
pub const GPIO_EDGES_AT_ONCE: usize = 64;
/// Longest debounce of a line. A contact is at rest within milliseconds; what takes longer is a signal.
pub const LINE_DEBOUNCE_MAX: Duration = Duration::from_secs(10);
/// How often an input's state and a counter's values are told when nothing happens, unless the config says otherwise. A state is told when it
/// changes; a total that is a minute old is new enough for a graph.
pub const INPUT_EVERY: Duration = Duration::from_secs(600);
/// See [`INPUT_EVERY`].
pub const COUNTER_EVERY: Duration = Duration::from_secs(60);
/// How often a counter's total is written while it rises: what a kill or a power cut may cost is a minute's pulses. 1,440 small writes a day are
/// little to a card.
pub const TOTALS_WRITE: Duration = Duration::from_secs(60);
/// The same for the first that a run writes: a board that loses its power every minute counts on all the same, and it is one more write a start.
pub const TOTALS_FIRST_WRITE: Duration = Duration::from_secs(5);
/// Longest the last total may take to be written at a stop.
pub const TOTALS_LAST_WORD: Duration = Duration::from_secs(1);
/// Longest the tasks of lines may take to end: within [`STOP_SENSORS`], so that one that hangs in the kernel takes nobody with it.
pub const LINES_END: Duration = Duration::from_millis(1_500);
const _: () = assert!(
    TOTALS_LAST_WORD.as_millis() < LINES_END.as_millis() && LINES_END.as_millis() < STOP_SENSORS.as_millis(),
    "the last total must be written before its task is cut off, and that before its bus is"
);
/// How often a line is looked at though nothing was heard of it: an edge that was lost with nothing behind it, and a chip that was unplugged from
/// a kernel that does not say so, show then.
pub const GPIO_LOOK: Duration = Duration::from_secs(10);
/// Pause after a read that was full. A line that storms is so read 1,000 times a second at most; what the kernel has no room for meanwhile, it
/// counts.
pub const GPIO_EDGES_PAUSE: Duration = Duration::from_millis(1);
/// How long a level of an input must hold, unless the config says otherwise: buttons and relays bounce for up to 10 ms, and a person does not
/// see 20.
pub const INPUT_DEBOUNCE: Duration = Duration::from_millis(20);
/// The same of a counter: reed contacts bounce for about 1 ms, and give pulses of 30 ms and more (IEC 62053-31 for meters). 100 pulses a
/// second pass.
pub const COUNTER_DEBOUNCE: Duration = Duration::from_millis(5);
/// Longest name of a line or label of a chip; the kernel has 32 bytes for it, of which the last is zero (linux/gpio.h).
pub const LINE_NAME_BYTES_MAX: usize = 31;
/// Greatest offset of a line in its chip. The largest chips have some hundred.
pub const LINE_OFFSET_MAX: i64 = 65_535;
/// Longest a level that no edge told waits for its edge before it counts all the same: an edge is there within a millisecond, or it is lost.
pub const LINE_CONFIRM: Duration = Duration::from_millis(10);
/// Longest a line may move without holding a level before it is said to be restless: nobody presses a button for that long.
pub const LINE_RESTLESS: Duration = Duration::from_secs(1);
/// The same as a number of debounce spans, whichever is longer.
pub const LINE_RESTLESS_SPANS: u32 = 20;
/// Oldest stamp of the kernel's that is believed. An edge is read within milliseconds, on a stalled board within seconds; what seems older is
/// of another clock.
pub const STAMP_AGE_MAX: Duration = Duration::from_secs(60);
/// Names offered to somebody who asked for a line that does not exist.
pub const GPIO_NEAR_NAMES: usize = 3;
/// Edges that a simulated input keeps, as the kernel does.
pub const SIMULATED_EDGES: usize = 256;
/// Most pulses a second of a simulated input: beyond, the timer's millisecond would show.
pub const SIMULATED_PULSES_MAX: f64 = 100.0;

// ---- bridge ----

/// Longest a bridge waits for commands of its cloud to be noted before it acknowledges them: a commit on a slow card, many times over. After
/// that the link goes on; a command that was not noted is answered as failed when it is known.
pub const COMMAND_NOTED: Duration = Duration::from_secs(2);
/// Time over which the pace of a queue is taken for the estimate of when it is empty: long enough to be calm, short enough to follow a link.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(15);
/// Least time between two looks at the queue for that estimate, and the least time it is judged by: 30 looks are kept.
pub const DRAIN_LOOK: Duration = Duration::from_millis(500);
/// Records below which no estimate is made: so many are on their way at any time.
pub const DRAIN_QUEUE_MIN: u64 = 20;

/// QoS 2 messages in flight to a 3.1.1 cloud, which cannot state its limit. A stock Mosquitto allows 20: above it hangs up, and at 20 it
/// acknowledges a QoS 1 message and throws it away (2.0.11; 3.1.1 has no word for the quota it means). One below, neither happens.
pub const WINDOW_UNSTATED_QOS2: u16 = 19;
/// QoS 2 messages taken by a 3.1.1 cloud for which its window grows by one again. A cloud whose true limit is below hangs up once in so many.
pub const WINDOW_GROWS_AFTER: u32 = 1_000;

/// Times in a row that a 3.1.1 cloud, which has never taken a QoS 2 message, has to hang up on a single one before it gets QoS 1 instead.
/// One or two may be its restart.
pub const QOS2_REFUSALS: u8 = 3;

// ---- broker ----

/// A client that takes none of what is written to it for so long, by what the kernel still holds of it, is closed: its socket is dead, or it is.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// What one read takes from a socket at most, bytes, but for packets of [`LARGE_PACKET_BYTES`]. Idle connections hold no more than that.
pub const READ_BYTES: usize = 8 << 10;
/// Bytes encoded ahead for one client; deliveries beyond it wait as shared messages in the session. One packet may exceed it, whose payload is shared then.
pub const OUTPUT_BYTES: usize = 64 << 10;
/// Bytes of unsent answers at which a client is not read from any more: it sends without reading.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Publications of one client that wait for a commit before they are acknowledged; at that number it is not read from until one is done.
/// Told to MQTT 5 clients as Receive Maximum, so that they need not find out.
pub const UNACKNOWLEDGED_MAX: u16 = 256;
/// Unacknowledged messages towards one client when the config does not say, as far as its own Receive Maximum allows: enough to fill a link of 10 ms at
/// 25,000 messages/s.
pub const CLIENT_WINDOW: u16 = 256;
/// Topic aliases taken from and given to one client. Each costs its topic's length; 64 cover what a client publishes to all the time.
pub const TOPIC_ALIASES: u16 = 64;
/// Sessions kept, connected or not. One more client is refused as "server busy".
pub const SESSIONS_MAX: usize = 10_000;
/// Subscriptions of one session. One more is refused in its SUBACK.
pub const SUBSCRIPTIONS_MAX: usize = 4_096;
/// Levels of a filter; the trie recurses once a level. A deeper one is refused in its SUBACK.
pub const TOPIC_LEVELS_MAX: usize = 128;
/// Retained messages read for a subscriber at one time, and topics looked at to find them: bounds how long the broker's lock is held.
pub const RETAINED_READ_MAX: usize = 64;
/// See [`RETAINED_READ_MAX`]; about 50 µs.
pub const RETAINED_SCAN_MAX: usize = 512;
/// Topics remembered for [`ECHO_WAIT`] that their retained message is gone, 24 bytes each: an older one that another gateway pushes late does not bring it
/// back. Beyond, the oldest is forgotten.
pub const RETAINED_GONE_MAX: usize = 4_096;
/// Clients of which it is remembered that something was said about them once; at this number all are forgotten, and it may be said again.
pub const TOLD_ONCE_MAX: usize = 1_024;
/// Log of one filter with `routing = "rumqttd"`, bytes: 10 segments of 1 MiB. What a filter's subscribers have not been given beyond it is
/// lost, oldest first; it is never freed, which is why it is not larger.
pub const ROUTER_LOG_BYTES: usize = 10 << 20;
/// Messages from inside the process that wait for the engine's next commit, and as many again of QoS 0. A 50 ms linger at 20,000 a second.
/// When full, such a message is dropped and counted (`intake-full`): a sensor must never wait for a card.
pub const INTAKE_QUEUE: usize = 1_024;
/// Messages of local clients that wait for the commit their acknowledgement hangs on, over all clients. When full, the client is refused,
/// its connection ends without the acknowledgement, and it sends the message again.
pub const INTAKE_QUEUE_CLIENTS: usize = 16_384;
/// What the messages that wait for a commit may weigh, over all, bytes. When full, as above.
pub const INTAKE_BYTES: usize = 16 << 20;
/// Rows that make a commit due before its linger is over: 3.7 bytes written for each byte stored, against 11 with ten rows.
pub const COMMIT_ROWS: usize = 256;
/// Most rows a commit takes: it stays below 10 ms on a card, and the link is served in between.
pub const COMMIT_ROWS_MAX: usize = 1_024;
/// Longest the removal of an acknowledged record waits for a commit to ride along with. After a crash in between, QoS 1 is sent again.
pub const ACKNOWLEDGED_LINGER: Duration = Duration::from_secs(1);
/// Bytes of topics and payloads in flight: a window of large messages must fit the memory of a small board. One message always goes.
pub const FLIGHT_BYTES: usize = 4 << 20;
/// Bytes waiting for the socket above which the window is not filled any further, and QoS 0 is dropped and counted: a slow link needs no more
/// to stay busy.
pub const OUT_BYTES: usize = 256 << 10;
/// Records dropped together when a cap is reached: one transaction for many, so that a full store costs no more than one with room.
pub const DROP_ROWS: usize = 256;
/// Such transactions in a row before the link is served again.
pub const DROP_ROUNDS: usize = 16;
/// Pages given back to the file system at a time, 1 MiB, or what the log has room for: about as long as a commit.
pub const SHRINK_PAGES: u32 = 256;
/// Pause between two looks for pages to give back. A drained store of 256 MiB is small again after half an hour.
pub const SHRINK_PAUSE: Duration = Duration::from_secs(5);
/// How often records are looked through for their age.
pub const AGE_SWEEP: Duration = Duration::from_secs(60);
/// Drops of one cause are told together, at most this often.
pub const DROPS_TOLD: Duration = Duration::from_secs(5);
/// How often the state topic is renewed while only the number of waiting records changes.
pub const STATE_TOLD: Duration = Duration::from_secs(5);
/// Time between two tries of a store that cannot write (disk full, I/O error).
pub const STORE_RETRY: Duration = Duration::from_secs(5);
/// Answer to a PINGREQ, from when it has left.
pub const PING_ANSWER: Duration = Duration::from_secs(10);
/// Bytes that the cloud does not take for this long end the connection. With the default keep alive a dead link is known after 40 s when
/// nothing waits for the socket, and after 45 s when the last byte was taken just before the ping was due.
pub const WRITE_STALL: Duration = Duration::from_secs(15);
/// Bytes that TCP holds and has not sent (TCP_NOTSENT_LOWAT, tcp(7)), and as many in TLS: the rest waits with the engine, which then knows
/// whether a ping has left. At 4 kB/s these are through in 8 s, within [`PING_ANSWER`].
pub const SOCKET_UNSENT_BYTES: u32 = 16 << 10;
/// TCP_USER_TIMEOUT (tcp(7)): the kernel gives up unacknowledged bytes after this long, not after its fifteen minutes.
pub const TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// QoS 1 and 2 messages taken from an MQTT 5 cloud before they are acknowledged.
pub const DOWN_RECEIVE_MAXIMUM: u16 = 100;
/// Largest packet taken from the cloud. MQTT 5 clouds are told; a 3.1.1 cloud that sends a larger one is hung up on.
pub const DOWN_PACKET_MAX: usize = 16 << 20;
/// Largest WebSocket frame that is sent: a web server's buffers are of that order, and a ping is not held up behind more.
pub const WEBSOCKET_FRAME_BYTES: usize = 16 << 10;
/// Bytes that a WebSocket holds and its socket has not taken: one frame and the pongs that came due meanwhile. Further pongs replace one another.
pub const WEBSOCKET_WRITE_BYTES_MAX: usize = 4 * WEBSOCKET_FRAME_BYTES;
/// Bytes of a WebSocket read at a time.
pub const WEBSOCKET_READ_BYTES: usize = 16 << 10;
/// Largest WebSocket message taken, fragments together: a packet of [`DOWN_PACKET_MAX`] and what a cloud puts in a frame with it. A larger one
/// ends the connection.
pub const WEBSOCKET_MESSAGE_MAX: usize = DOWN_PACKET_MAX + (64 << 10);
/// Longest path of a WebSocket, bytes; a longer one is refused in the config.
pub const WEBSOCKET_PATH_BYTES_MAX: usize = 1_024;
/// Bytes read from the cloud at a time.
pub const BRIDGE_READ_BYTES: usize = 64 << 10;
/// Threads that look up names, for each bridge. One hangs with a dead resolver for as long as the C library waits; the next tries with the
/// other. While both hang nothing more is asked: the first answer is waited for, within `connect_timeout`.
pub const RESOLVER_THREADS: usize = 2;
/// Connections in a row that a cloud may close without an answer to CONNECT before the other version is tried: one may be its restart. One
/// that has spoken version 5 is not doubted for it.
pub const SILENT_CLOSES: u32 = 2;
/// Pause before an engine that panicked is started again: long enough that a mistake that repeats itself costs no core.
pub const ENGINE_PAUSE: Duration = Duration::from_secs(1);
/// Part of a stop's budget kept for saying `offline`.
pub const GOODBYE: Duration = Duration::from_secs(1);
/// Least time between two values of an engine's status, but for changes of its state.
pub const STATUS_EVERY: Duration = Duration::from_millis(200);
/// Bytes that an ended connection may still take (a DISCONNECT, mostly) before it is closed all the same.
pub const BRIDGE_LAST_WORDS: Duration = Duration::from_millis(500);
/// Longest an acknowledgement waits for the others of its window before the commit that follows from it.
pub const GATHER: Duration = Duration::from_millis(1);

//! Every kind of mistake a config can hold, with its number. A number is never given to another mistake.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal $title:literal;)+) => {
        /// What kind of mistake it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All kinds, by number.
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// The number people search for.
            pub fn number(self) -> &'static str {
                match self { $(Code::$name => $number),+ }
            }

            /// A few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title),+ }
            }

            /// What it means and what to do, for `docs/errors.md`.
            pub fn explanation(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc, "\n"),+)),+ }
            }
        }
    };
}

codes! {
    /// The file cannot be read: it is not there, it is a directory, or the user that tidegate runs as may not read it.
    FileUnreadable = "G001" "a file cannot be read";
    /// The file is not text in UTF-8. The place of the first wrong byte is told.
    NotText = "G002" "a file is no text";
    /// The text is not TOML. While there is such a mistake, only mistakes of single values are told beside it: what stands
    /// between values is judged once the text can be read.
    Syntax = "G003" "the text is no TOML";
    /// A file is larger than 8 MiB, or there are more than 256 files.
    TooMuch = "G004" "a file is too large, or there are too many";
    /// An `include` names a file that is not there. A pattern with `*` or `?` may match nothing.
    IncludeMissing = "G005" "an included file is not there";
    /// A file is included twice, or includes itself by way of others.
    IncludeTwice = "G006" "a file is included twice";
    /// Two files give the same key. Tables of several files are joined and lists are put one after the other, but one
    /// key cannot have two values. Both places are told.
    GivenTwice = "G007" "two files give one key";
    /// There is no such key in this block. The nearest known one is offered.
    UnknownKey = "G010" "unknown key";
    /// The block cannot do without this key.
    MissingKey = "G011" "a key is missing";
    /// The value is of another type, for instance a number where a text in quotes is wanted.
    WrongType = "G012" "wrong type of value";
    /// The value is below or above what is allowed.
    OutOfRange = "G013" "value out of range";
    /// The value has the right type but not the right form: a duration without unit, an address without port.
    Malformed = "G014" "value of the wrong form";
    /// Only certain words are allowed here.
    NotAChoice = "G015" "not one of the choices";
    /// An id becomes a topic level and part of a file name: letters, digits, `-`, `_`, `.`; at most 64 bytes.
    BadId = "G016" "not an id";
    /// `status`, `bridge`, `event` and `health` are topics of the gateway itself, and no sensor can be named so. No value can be published as
    /// `ts`, `q`, `tq` or `seq`, words of the payload itself, nor, where each value has a topic (`payload = "value"`), as `availability`,
    /// `set` or `ack`.
    ReservedId = "G017" "the id is taken by the gateway itself";
    /// Two things of one kind bear the same id or name.
    Duplicate = "G018" "the same id twice";
    /// There is no driver of that name.
    UnknownDriver = "G020" "unknown driver";
    /// The sensor names a bus that is not declared under `[bus]`.
    UnknownBus = "G021" "unknown bus";
    /// The driver cannot use these keys. The message is the driver's.
    DriverOption = "G022" "the driver refuses a key";
    /// Two buses name one device: each would get half of what it says.
    DeviceTwice = "G023" "a device on two buses";
    /// Values of a sensor's processing do not fit together: a range with its ends swapped, an even median.
    Processing = "G024" "processing that cannot work";
    /// The driver, as it is configured, gives no value of this name.
    UnknownValue = "G025" "unknown value";
    /// The driver hangs on something else: `uart` on a serial port, `bme280` on an I²C bus; drivers of the kernel's own devices on no declared bus.
    WrongBus = "G026" "a driver on the wrong kind of bus";
    /// Two sensors are at one address of one I²C bus. A chip has one driver.
    AddressTwice = "G027" "one address for two sensors";
    /// Two sensors or actuators use one GPIO line. The kernel gives a line to one user.
    LineTwice = "G028" "one line for two users";
    /// What an actuator is to keep to does not fit it, or together: a safe state that it does not have, `max_on` for what is safe when it
    /// is on, `link_loss` without a bridge.
    Limits = "G029" "limits of an actuator that cannot be kept";
    /// The text is no topic, or no topic filter (MQTT 5, section 4.7).
    BadTopic = "G030" "not a topic";
    /// A template has a hole that cannot be filled: only `{gateway}`, `{sensor}` and, in rules, `{1}` to the number of
    /// wildcards in `from` are known.
    BadHole = "G031" "a template with an unknown hole";
    /// Two `in` rules of one bridge subscribe to topics in common: the cloud may deliver such a message twice.
    RulesOverlap = "G032" "rules that overlap";
    /// Messages would run in a circle: what one bridge brings down, the other takes up to where the first gets it again; or a bridge leads
    /// to the gateway's own broker.
    RulesLoop = "G033" "rules that make a loop";
    /// Two bridges use one client id at the same cloud: each would throw the other out.
    ClientIdTwice = "G034" "one client id for two bridges";
    /// Two sensors or actuators would publish to one topic.
    TopicTwice = "G035" "one topic for two sensors";
    /// The cloud that `preset` names does not take this: a QoS, a retained message, a topic, a version of MQTT, a keep alive, a port. It would
    /// refuse the message or hang up. `tidegate presets NAME` says what it takes.
    NotTaken = "G036" "the cloud does not take this";
    /// A key of `[broker]` that says how the gateway's own broker is to be, with `engine = "external"`: that is for the configuration of the broker that
    /// is there already. Or `[broker.external]` without `engine = "external"`.
    OtherEngine = "G037" "a key for another engine of the broker";
    /// A password stands in the file. Secrets come from systemd (`credential:`), a file (`file:`) or the environment (`env:`).
    SecretInFile = "G040" "a secret stands in the file";
    /// The secret cannot be read from where it is said to be.
    SecretUnreadable = "G041" "a secret cannot be read";
    /// The file with certificates or a key cannot be read, or holds none in PEM form.
    BadPem = "G042" "no certificate or key where one should be";
    /// A client certificate and its key go together, as do user name and password; `tls` goes with `mqtts://` and `wss://`; what is asked of
    /// clients' certificates goes with `client_ca`, and what a client is denied with something that it is granted.
    Incomplete = "G043" "one key without the other";
    /// The `hash` of a user is no argon2 hash in PHC form. `tidegate user hash` makes one.
    BadHash = "G044" "not a password hash";
    /// Anyone who reaches this address could read and write everything. Declare users, demand certificates of clients (`client_ca` of
    /// `[broker.tls]`), or say it a second time with `anonymous = "beyond-loopback"`.
    OpenBroker = "G050" "an open broker beyond loopback";
    /// Anyone who reaches this address could see everything, and move actuators. Ask for a `token`, or listen on loopback.
    OpenPage = "G051" "a page for anyone beyond loopback";
    /// Warning: other users of this machine can read the file with the secret.
    SecretExposed = "G060" "a secret that others can read";
    /// Warning: user name and password, or the token of the page, go over the network in clear text.
    ClearPassword = "G061" "a password in clear text";
    /// Warning: declared, but nothing uses it.
    Unused = "G062" "declared and not used";
    /// Warning: the bridge has no rules that would carry anything.
    MovesNothing = "G063" "a bridge that moves nothing";
    /// Warning: a user who may neither publish nor subscribe.
    UserWithoutRights = "G064" "a user without rights";
    /// Warning of `check`: systemd hands credentials to the service alone, so whether this one is there shows at the start.
    CredentialUnseen = "G065" "a credential that was not looked at";
    /// Warning: `state_dir` leads below `/etc`, mostly because it is relative and the config is there. The service that systemd runs may not
    /// write there; without `state_dir` it has `/var/lib/tidegate`.
    StateInEtc = "G066" "state below /etc";
    /// Warning: more than the cloud that `preset` names is known to take, where an account or the owner of the broker can have more: a `rate`, or a
    /// number or topic at a broker of one's own. `tidegate presets NAME` says what is known. Where it was not set so there, messages are refused
    /// or the connection ends.
    NotKnown = "G067" "more than the cloud is known to take";
    /// Warning: the certificate has expired, expires within 30 days, or is not valid yet. Of `ca`, the best of several counts; of `cert`, the worst of its
    /// chain. A running bridge takes a new file with its next connection, without a restart.
    CertificateExpires = "G068" "a certificate that is not valid for long";
}

impl Code {
    /// The page of `docs/errors.md`.
    pub fn page() -> String {
        use std::fmt::Write as _;
        let mut page = String::from(
            "# Errors in the config\n\n\
             <!-- Generated by `tidegate config errors`. -->\n\n\
             `tidegate check` and the start tell every mistake at once, each with its number. With an error the exit code is 78 and \
             nothing was started; a reload keeps what runs. Numbers from G060 are warnings: they are told, and the gateway starts.\n",
        );
        for code in Code::ALL {
            // Writing to a String cannot fail.
            let _ = write!(page, "\n## {}: {}\n\n", code.number(), code.title());
            for line in code.explanation().lines() {
                let _ = writeln!(page, "{}", line.trim());
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_no_number_is_used_twice() {
        let numbers: Vec<_> = Code::ALL.iter().map(|code| code.number()).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(numbers, sorted);
    }
}

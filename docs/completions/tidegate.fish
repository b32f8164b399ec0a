# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_tidegate_global_optspecs
    string join \n h/help V/version
end

function __fish_tidegate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_tidegate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_tidegate_using_subcommand
    set -l cmd (__fish_tidegate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c tidegate -n "__fish_tidegate_needs_command" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_needs_command" -s V -l version -d 'Print version'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "run" -d 'Run the gateway'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "demo" -d 'Try it without hardware, config or network'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "check" -d 'Check the config and tell every mistake, or what it allows a client of the local broker; nothing is started'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "drivers" -d 'What can be read, and how a sensor of each kind is configured'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "presets" -d 'List the clouds that are known, or what one takes'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "scan" -d 'Look what is there to be read, each with a block of config to paste'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "read" -d 'Read one sensor once, without the rest of the gateway'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "config" -d 'Show the config as it works, or what may be in one'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "status" -d 'Show what the running gateway reads, holds and does'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "clients" -d 'Show who is connected to the running gateway\'s local broker, and which sessions wait; show one out'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "set" -d 'Give an actuator of the running gateway a command, and tell its answer'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "outbox" -d 'What waits for the clouds: look, export, remove, send again'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "bridge" -d 'The way to a cloud'
complete -c tidegate -n "__fish_tidegate_needs_command" -f -a "user" -d 'Users of the local broker'
complete -c tidegate -n "__fish_tidegate_using_subcommand run" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand run" -l simulate -d 'With software in the place of every bus: no hardware is touched, and the readings are made up'
complete -c tidegate -n "__fish_tidegate_using_subcommand run" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand demo" -l for -d 'Stop by itself after this long, and tell what arrived' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand demo" -l plain -d 'Plain lines, also on a terminal'
complete -c tidegate -n "__fish_tidegate_using_subcommand demo" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand check" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand check" -l acl -d 'Tell instead whether USER may publish and subscribe to TOPIC, and by which filter. USER `-` is a client without a user name; TOPIC with wildcards is a filter to subscribe with. Ends with 0 if the client may do one of the two, with 1 if neither' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand check" -l client -d 'The client id, for filters with {client}' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand check" -l may -d 'Ask for one of the two alone: it ends with 0 if the client may do that' -r -f -a "publish\t'Send messages to it'
subscribe\t'Be sent its messages'"
complete -c tidegate -n "__fish_tidegate_using_subcommand check" -l no-secrets -d 'Leave secrets, certificates and keys unread, for a machine that has none'
complete -c tidegate -n "__fish_tidegate_using_subcommand check" -l json -d 'Tell it as JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tidegate -n "__fish_tidegate_using_subcommand drivers" -l json -d 'Tell it as JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand drivers" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand presets" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand presets" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand scan" -l json -d 'Tell it as JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand scan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tidegate -n "__fish_tidegate_using_subcommand read" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand read" -l wait -d 'Longest to wait for a sensor that speaks by itself' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand read" -l json -d 'Tell it as JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand read" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and not __fish_seen_subcommand_from show systemd schema reference errors" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and not __fish_seen_subcommand_from show systemd schema reference errors" -f -a "show" -d 'Print the config as it works: defaults filled in and marked, password hashes masked'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and not __fish_seen_subcommand_from show systemd schema reference errors" -f -a "systemd" -d 'Print a drop-in for the systemd unit: the devices, groups and credentials that this config needs, and no others'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and not __fish_seen_subcommand_from show systemd schema reference errors" -f -a "schema" -d 'Print a JSON Schema of the config, for editors'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and not __fish_seen_subcommand_from show systemd schema reference errors" -f -a "reference" -d 'Print the reference page (docs/config.md)'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and not __fish_seen_subcommand_from show systemd schema reference errors" -f -a "errors" -d 'Print every error number with its meaning (docs/errors.md)'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from show" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from systemd" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from systemd" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from reference" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand config; and __fish_seen_subcommand_from errors" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand status" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand status" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand status" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand clients" -l kick -d 'End the connection of this client; one that keeps a session may come back to it' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand clients" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand clients" -l forget -d 'End its session too, with its subscriptions and all that waits for it; also of a client that is away'
complete -c tidegate -n "__fish_tidegate_using_subcommand clients" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand clients" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand set" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand set" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand set" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and not __fish_seen_subcommand_from status list export purge retry" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and not __fish_seen_subcommand_from status list export purge retry" -f -a "status" -d 'Show what waits for each cloud; from the store files while no gateway is running'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and not __fish_seen_subcommand_from status list export purge retry" -f -a "list" -d 'List the records that wait for a cloud, oldest first'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and not __fish_seen_subcommand_from status list export purge retry" -f -a "export" -d 'Write the records that wait for a cloud to a file, with their payloads, one JSON object a line; they stay in the store'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and not __fish_seen_subcommand_from status list export purge retry" -f -a "purge" -d 'Remove records from a store, never one that is in flight'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and not __fish_seen_subcommand_from status list export purge retry" -f -a "retry" -d 'Send dead letters again, which the cloud had refused for good'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from status" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from status" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -l seq -d 'Numbers of records' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -l topic -d 'Topics at the cloud that this filter matches' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -l older-than -d 'Accepted longer ago than this' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -l limit -d 'No more than so many' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -l dead -d 'Of the dead letters, which the cloud refused for good'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -l payload -d 'With their payloads'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -l seq -d 'Numbers of records' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -l topic -d 'Topics at the cloud that this filter matches' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -l older-than -d 'Accepted longer ago than this' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -s o -l output -d 'A new file, readable by its owner alone; else the standard output' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -l dead -d 'Of the dead letters, which the cloud refused for good'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -l json -d 'Tell what was written as JSON; goes with --output'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -l seq -d 'Numbers of records' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -l topic -d 'Topics at the cloud that this filter matches' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -l older-than -d 'Accepted longer ago than this' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -l dead -d 'Of the dead letters, which the cloud refused for good'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -l all -d 'Every one of them, where nothing else says which'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -l yes -d 'Do not ask'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from purge" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from retry" -l seq -d 'Numbers of records' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from retry" -l topic -d 'Topics at the cloud that this filter matches' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from retry" -l older-than -d 'Accepted longer ago than this' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from retry" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from retry" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand outbox; and __fish_seen_subcommand_from retry" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand bridge; and not __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand bridge; and not __fish_seen_subcommand_from test" -f -a "test" -d 'Walk the way to a cloud: name, TCP, TLS, WebSocket, CONNECT, subscriptions, an empty message; the first failure ends it'
complete -c tidegate -n "__fish_tidegate_using_subcommand bridge; and __fish_seen_subcommand_from test" -l topic -d 'Topic at the cloud for the empty message, instead of `test` beside the gateway\'s status' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand bridge; and __fish_seen_subcommand_from test" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand bridge; and __fish_seen_subcommand_from test" -l as-bridge -d 'Under the bridge\'s own client id, for a cloud that lets in no other; the gateway must not be running'
complete -c tidegate -n "__fish_tidegate_using_subcommand bridge; and __fish_seen_subcommand_from test" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand bridge; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and not __fish_seen_subcommand_from add passwd list hash" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and not __fish_seen_subcommand_from add passwd list hash" -f -a "add" -d 'Ask for a password and add a user to the config'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and not __fish_seen_subcommand_from add passwd list hash" -f -a "passwd" -d 'Ask for a password and give it to a user of the config'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and not __fish_seen_subcommand_from add passwd list hash" -f -a "list" -d 'List the users of the config and what they may do'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and not __fish_seen_subcommand_from add passwd list hash" -f -a "hash" -d 'Ask for a password and print its hash, for `hash` of a user in the config'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -l publish -d 'A topic filter the user may publish to; may be given several times. The levels {user} and {client} stand for the connection\'s own names, {gateway} for this gateway' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -l subscribe -d 'A topic filter the user may subscribe to, likewise' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -l deny-publish -d 'A topic filter the user may not publish to, though a wider one allows it, likewise' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -l deny-subscribe -d 'A topic filter whose messages the user is not sent, though a wider one allows it, likewise' -r
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -l print -d 'Change no file: print the block to paste'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -l reload -d 'Have the running gateway read its config again; else it goes on by the old one until it is told'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from passwd" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from passwd" -l reload -d 'Have the running gateway read its config again; else it goes on by the old one until it is told'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from passwd" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from list" -s c -l config -d 'The config file' -r -F
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from list" -l json -d 'As JSON'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c tidegate -n "__fish_tidegate_using_subcommand user; and __fish_seen_subcommand_from hash" -s h -l help -d 'Print help'

//! Commands of the connection and the node.

use crate::support::{Client, Rig, words};

fn rig() -> (Rig, Client) {
    let rig = Rig::new(2);
    let client = rig.client();
    (rig, client)
}

fn text(reply: &[u8]) -> String {
    String::from_utf8(reply.to_vec()).expect("replies here are text")
}

#[test]
fn hello_introduces_and_switches_the_version() {
    let (mut rig, mut client) = rig();
    let fields = |proto: u8| {
        format!(
            "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:{proto}\r\n\
             $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
             $7\r\nmodules\r\n*0\r\n"
        )
    };
    assert_eq!(
        text(&rig.run(&mut client, &words("HELLO"))),
        format!("*14\r\n{}", fields(2))
    );
    let reply = rig.run(&mut client, &words("HELLO 3 SETNAME me"));
    assert_eq!(text(&reply), format!("%7\r\n{}", fields(3)));
    assert_eq!(rig.run(&mut client, &words("GET missing")), b"_\r\n");
    assert_eq!(
        rig.run(&mut client, &words("CLIENT GETNAME")),
        b"$2\r\nme\r\n"
    );
    assert_eq!(
        text(&rig.run(&mut client, &words("HELLO"))),
        format!("%7\r\n{}", fields(3))
    );
    // There is one user, and no password: Redis takes any for it then.
    assert!(
        rig.run(&mut client, &words("HELLO 2 AUTH default any"))
            .starts_with(b"*14")
    );
    let reply = rig.run(&mut client, &words("HELLO 3 AUTH other any"));
    assert!(reply.starts_with(b"-WRONGPASS"));
    assert_eq!(rig.run(&mut client, &words("GET missing")), b"$-1\r\n");
}

#[test]
fn clients_describe_themselves() {
    let (mut rig, mut client) = rig();
    assert_eq!(rig.run(&mut client, &words("CLIENT GETNAME")), b"$-1\r\n");
    assert_eq!(
        rig.run(&mut client, &words("CLIENT SETNAME worker")),
        b"+OK\r\n"
    );
    assert_eq!(
        rig.run(&mut client, &words("CLIENT SETINFO LIB-NAME redis-py")),
        b"+OK\r\n"
    );
    assert_eq!(
        rig.run(&mut client, &words("CLIENT SETINFO lib-ver 5.0")),
        b"+OK\r\n"
    );
    assert_eq!(
        rig.run(&mut client, &words("CLIENT NO-EVICT ON")),
        b"+OK\r\n"
    );
    assert_eq!(rig.run(&mut client, &words("CLIENT ID")), b":1\r\n");
    rig.advance_ms(2_500);
    let line = text(&rig.run(&mut client, &words("CLIENT INFO")));
    for field in [
        "id=1 addr=127.0.0.1:1",
        " name=worker",
        " age=2",
        " idle=2",
        " flags=e",
        " db=0",
        " multi=-1",
        " user=default",
        " resp=2",
        " lib-name=redis-py",
        " lib-ver=5.0\n",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
    assert_eq!(
        rig.run(&mut client, &words("CLIENT LIST TYPE replica")),
        b"$0\r\n\r\n"
    );
    assert_eq!(
        rig.run(&mut client, &[b"CLIENT", b"SETNAME", b""]),
        b"+OK\r\n"
    );
    assert_eq!(rig.run(&mut client, &words("CLIENT GETNAME")), b"$-1\r\n");
}

#[test]
fn config_shows_what_exists_and_refuses_what_cannot_change() {
    let (mut rig, mut client) = rig();
    let mut run = |line: &str| text(&rig.run(&mut client, &words(line)));
    assert_eq!(run("CONFIG GET save"), "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    assert_eq!(
        run("CONFIG GET APPEND*"),
        "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"
    );
    assert_eq!(
        run("CONFIG GET maxmemory-policy port nosuch p?rt")
            .matches('$')
            .count(),
        4
    );
    assert_eq!(run("CONFIG GET nosuch"), "*0\r\n");
    assert_eq!(run("CONFIG SET maxclients 5"), "+OK\r\n");
    assert_eq!(run("CONFIG SET appendonly no"), "+OK\r\n");
    // Texts of redis-server 7.0.15.
    let failed = "-ERR CONFIG SET failed (possibly related to argument";
    for (line, reply) in [
        (
            "databases 5",
            format!("{failed} 'databases') - can't set immutable config\r\n"),
        ),
        (
            "port 5",
            format!("{failed} 'port') - can't set immutable config\r\n"),
        ),
        (
            "timeout 5",
            format!("{failed} 'timeout') - can't set immutable config\r\n"),
        ),
        (
            "maxclients 5 maxclients 6",
            format!("{failed} 'maxclients') - duplicate parameter\r\n"),
        ),
        (
            "maxclients x",
            format!("{failed} 'maxclients') - argument couldn't be parsed into an integer\r\n"),
        ),
        (
            "maxclients 0",
            format!(
                "{failed} 'maxclients') - argument must be between 1 and 4294967295 inclusive\r\n"
            ),
        ),
        (
            "nosuch 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n".into(),
        ),
    ] {
        assert_eq!(run(&format!("CONFIG SET {line}")), reply, "{line}");
    }
    assert_eq!(run("CONFIG RESETSTAT"), "+OK\r\n");
}

#[test]
fn info_has_the_sections_asked_for() {
    let (mut rig, mut client) = rig();
    let mut run = |line: &str| text(&rig.run(&mut client, &words(line)));
    let default = run("INFO");
    for field in [
        "# Server\r\nredis_version:7.0.15\r\nfulmar_version:",
        "\r\n\r\n# Clients\r\n",
        "\r\nrole:master\r\n",
        "\r\nloading:0\r\n",
        "\r\nmaxmemory_policy:allkeys-lru\r\n",
        "\r\nused_memory_human:0B\r\n",
        "\r\nused_cpu_sys:0.000000\r\n",
        "\r\n# Keyspace\r\n",
    ] {
        assert!(default.contains(field), "{field} in {default}");
    }
    assert!(!default.contains("# Commandstats"));
    assert!(run("INFO everything").contains("# Commandstats"));
    let some = run("INFO cpu KEYSPACE");
    let titles: Vec<&str> = some.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(titles, ["# CPU", "# Keyspace"]);
    assert_eq!(run("INFO nosuch"), "$0\r\n\r\n");
}

#[test]
fn node_commands_run_inside_transactions() {
    let (mut rig, mut client) = rig();
    for line in [
        "MULTI",
        "PING",
        "TIME",
        "CLIENT SETNAME me",
        "UNWATCH",
        "SELECT 0",
        "GET a",
    ] {
        rig.run(&mut client, &words(line));
    }
    let reply = text(&rig.run(&mut client, &words("EXEC")));
    let time = "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n";
    assert_eq!(
        reply,
        format!("*6\r\n+PONG\r\n{time}+OK\r\n+OK\r\n+OK\r\n$-1\r\n")
    );
    assert_eq!(
        rig.run(&mut client, &words("CLIENT GETNAME")),
        b"$2\r\nme\r\n"
    );
}

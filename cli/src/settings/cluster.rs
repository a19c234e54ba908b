//! The settings of a node's cluster.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use fulmar_server::{ClusterConfig, Minority, ZONE_BYTES_MAX, Zone};

use super::{MinorityMode, PORT, Settings};

/// What is added to the RESP port for the cluster's, as Redis does for its bus.
const CLUSTER_PORT_OFFSET: u16 = 10_000;
const REPLICAS_MAX: u8 = 3;
const REBUILD_DELAY_SECONDS: u64 = 60;
/// A secret is a line, not a film.
const SECRET_BYTES_MAX: u64 = 4_096;

/// Why the settings of the cluster make no configuration. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ClusterSettingsError {
    /// A flag of the cluster without `--cluster`.
    #[error("{0} needs --cluster")]
    NotACluster(&'static str),
    /// The cluster port would be above 65,535.
    #[error("--cluster-port: {0} + 10000 is no port; name one")]
    NoPort(u16),
    /// A host that has no address, or no port behind it.
    #[error("--join {0}: write HOST:PORT with a host that has an address ({1})")]
    Join(String, io::Error),
    /// Nobody to wait for.
    #[error("--bootstrap-expect {0}: from 1 to 256, and --join must name the nodes")]
    Expect(u16),
    /// More than there can be.
    #[error("--replicas {0}: from 0 to 3")]
    Replicas(u8),
    /// Neither `HOST` nor `HOST:PORT`.
    #[error("--announce {0}: write HOST or HOST:PORT")]
    Announce(String),
    /// Others cannot reach a node by the address of any of its interfaces.
    #[error("--announce is needed when --bind is {0}: which address do the others reach it by?")]
    NoAnnounce(IpAddr),
    /// Too long a name.
    #[error("--zone {0}: at most {ZONE_BYTES_MAX} bytes")]
    Zone(String),
    /// A node without a share.
    #[error("--weight {0}: from 1 to 65535")]
    Weight(u16),
    /// The secret's file is not readable.
    #[error("cannot read the secret {path}: {error}", path = path.display())]
    Secret {
        /// As given.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Settings {
    /// The node's part in a cluster, if it is to have one.
    pub(super) fn cluster_config(&self) -> Result<Option<ClusterConfig>, ClusterSettingsError> {
        if !self.cluster {
            return self.refuse_cluster_flags().map(|()| None);
        }
        let bind = self.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let resp_port = self.port.unwrap_or(PORT);
        let port = match (self.cluster_port, resp_port) {
            (Some(port), _) => port,
            (None, 0) => 0,
            (None, resp_port) => resp_port
                .checked_add(CLUSTER_PORT_OFFSET)
                .ok_or(ClusterSettingsError::NoPort(resp_port))?,
        };
        let (announce_host, announce_port) = self.announced(bind)?;
        let join = self.joined()?;
        let expect = self.bootstrap_expect;
        if let Some(count) = expect
            && (!(1..=256).contains(&count) || join.is_empty())
        {
            return Err(ClusterSettingsError::Expect(count));
        }
        let replicas = self.replicas.unwrap_or(1);
        if replicas > REPLICAS_MAX {
            return Err(ClusterSettingsError::Replicas(replicas));
        }
        let weight = self.weight.unwrap_or(1);
        if weight == 0 {
            return Err(ClusterSettingsError::Weight(weight));
        }
        let zone = self.zone.clone().unwrap_or_default();
        let directory = self.node_dir.clone();
        Ok(Some(ClusterConfig {
            port,
            announce_host,
            announce_port,
            join,
            bootstrap_expect: expect,
            replicas,
            zone: Zone::new(&zone).map_err(|_| ClusterSettingsError::Zone(zone))?,
            weight,
            directory: directory.unwrap_or_else(|| format!("fulmar-{resp_port}").into()),
            minority: match self.minority {
                None | Some(MinorityMode::Serve) => Minority::Serve,
                Some(MinorityMode::Refuse) => Minority::Refuse,
            },
            rebuild_delay: Duration::from_secs(self.rebuild_delay.unwrap_or(REBUILD_DELAY_SECONDS)),
            secret: self.secret()?,
        }))
    }

    /// A flag that would have no effect is a mistake.
    fn refuse_cluster_flags(&self) -> Result<(), ClusterSettingsError> {
        let given = [
            ("--cluster-port", self.cluster_port.is_some()),
            ("--join", self.join.is_some()),
            ("--bootstrap-expect", self.bootstrap_expect.is_some()),
            ("--replicas", self.replicas.is_some()),
            ("--announce", self.announce.is_some()),
            ("--zone", self.zone.is_some()),
            ("--weight", self.weight.is_some()),
            ("--node-dir", self.node_dir.is_some()),
            ("--minority", self.minority.is_some()),
            ("--rebuild-delay", self.rebuild_delay.is_some()),
            ("--cluster-secret-file", self.cluster_secret_file.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(ClusterSettingsError::NotACluster(flag)),
            None => Ok(()),
        }
    }

    fn announced(&self, bind: IpAddr) -> Result<(String, Option<u16>), ClusterSettingsError> {
        let Some(announce) = &self.announce else {
            if bind.is_unspecified() {
                return Err(ClusterSettingsError::NoAnnounce(bind));
            }
            return Ok((bind.to_string(), None));
        };
        let wrong = || ClusterSettingsError::Announce(announce.clone());
        if announce.parse::<IpAddr>().is_ok() {
            return Ok((announce.clone(), None));
        }
        let (host, port) = match announce.rsplit_once(':') {
            None => (announce.as_str(), None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.bytes().any(|byte| byte.is_ascii_whitespace()) {
            return Err(wrong());
        }
        Ok((host.to_owned(), port))
    }

    fn joined(&self) -> Result<Vec<SocketAddr>, ClusterSettingsError> {
        let mut addresses = Vec::new();
        for place in self.join.iter().flatten() {
            let wrong = |error| ClusterSettingsError::Join(place.clone(), error);
            let mut found = place.to_socket_addrs().map_err(wrong)?;
            let address = found.next();
            addresses.push(address.ok_or_else(|| wrong(io::ErrorKind::NotFound.into()))?);
        }
        Ok(addresses)
    }

    fn secret(&self) -> Result<Vec<u8>, ClusterSettingsError> {
        let Some(path) = &self.cluster_secret_file else {
            return Ok(Vec::new());
        };
        let read = || {
            if fs::metadata(path)?.len() > SECRET_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            fs::read(path)
        };
        let secret = read().map_err(|error| ClusterSettingsError::Secret {
            path: path.clone(),
            error,
        })?;
        Ok(secret.trim_ascii().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterSettingsError, Settings};

    fn cluster() -> Settings {
        Settings {
            cluster: true,
            ..Settings::default()
        }
    }

    #[test]
    fn the_defaults_are_a_cluster_of_one() {
        let config = cluster().cluster_config().expect("valid").expect("on");
        assert_eq!(
            (config.port, config.replicas, config.weight),
            (16_379, 1, 1)
        );
        assert_eq!(config.announce_host, "127.0.0.1");
        assert!(config.join.is_empty() && config.secret.is_empty());
        assert!(
            Settings::default()
                .cluster_config()
                .expect("valid")
                .is_none()
        );
    }

    #[test]
    fn announced_addresses_take_hosts_and_ports() {
        for (text, host, port) in [
            ("cache-1", "cache-1", None),
            ("cache-1:7000", "cache-1", Some(7_000)),
            ("10.0.0.1:7000", "10.0.0.1", Some(7_000)),
            ("::1", "::1", None),
            ("[::1]:7000", "::1", Some(7_000)),
        ] {
            let settings = Settings {
                announce: Some(text.into()),
                ..cluster()
            };
            let config = settings.cluster_config().expect(text).expect("on");
            assert_eq!(
                (config.announce_host.as_str(), config.announce_port),
                (host, port)
            );
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = cluster();
            change(&mut settings);
            settings.cluster_config().expect_err("makes no sense")
        };
        use ClusterSettingsError as Error;
        let without = refused(|s| {
            s.cluster = false;
            s.weight = Some(2);
        });
        assert!(matches!(without, Error::NotACluster("--weight")));
        assert!(matches!(
            refused(|s| s.port = Some(60_000)),
            Error::NoPort(60_000)
        ));
        assert!(matches!(
            refused(|s| s.replicas = Some(4)),
            Error::Replicas(4)
        ));
        assert!(matches!(refused(|s| s.weight = Some(0)), Error::Weight(0)));
        assert!(matches!(
            refused(|s| s.bootstrap_expect = Some(3)),
            Error::Expect(3)
        ));
        assert!(matches!(
            refused(|s| s.join = Some(vec!["nohost".into()])),
            Error::Join(..)
        ));
        assert!(matches!(
            refused(|s| s.announce = Some("a b".into())),
            Error::Announce(_)
        ));
        assert!(matches!(
            refused(|s| s.zone = Some("z".repeat(33))),
            Error::Zone(_)
        ));
        let anywhere = refused(|s| s.bind = Some("0.0.0.0".parse().expect("an address")));
        assert!(matches!(anywhere, Error::NoAnnounce(_)));
    }
}

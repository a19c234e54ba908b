//! What a server answered.

use std::fmt;

use bytes::Bytes;

/// A reply.
///
/// Bytes in it share the buffer that they were read into: a small one that is kept for long may keep up to
/// 64 KiB alive, and is better copied then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing is there.
    Null,
    /// A short word of the server's, such as `OK`.
    Status(Bytes),
    /// Bytes, as they were stored.
    Bytes(Bytes),
    /// A number.
    Integer(i64),
    /// Several replies.
    Array(Vec<Self>),
    /// An error as a part of an array. One that stands alone is an `Err`.
    Error(ServerError),
}

impl Value {
    /// The bytes of a value or a status; `None` for nothing. Gives the reply back if it is another one.
    ///
    /// # Errors
    /// The reply, if it is of another type.
    pub fn into_bytes(self) -> Result<Option<Bytes>, Self> {
        match self {
            Self::Null => Ok(None),
            Self::Bytes(bytes) | Self::Status(bytes) => Ok(Some(bytes)),
            other => Err(other),
        }
    }

    /// The number.
    ///
    /// # Errors
    /// The reply, if it is of another type.
    pub fn into_integer(self) -> Result<i64, Self> {
        match self {
            Self::Integer(number) => Ok(number),
            other => Err(other),
        }
    }

    /// The elements of an array.
    ///
    /// # Errors
    /// The reply, if it is of another type.
    pub fn into_array(self) -> Result<Vec<Self>, Self> {
        match self {
            Self::Array(elements) => Ok(elements),
            other => Err(other),
        }
    }

    /// What it is, for errors.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Status(_) => "a status",
            Self::Bytes(_) => "bytes",
            Self::Integer(_) => "an integer",
            Self::Array(_) => "an array",
            Self::Error(_) => "an error",
        }
    }
}

/// An error that a server answered: a code, such as `WRONGTYPE`, and a sentence.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerError {
    text: Bytes,
}

/// What the servers say when a command was sent on and its reply is lost.
const OUTCOME_UNKNOWN: &[u8] = b"ERR outcome is unknown";

impl ServerError {
    pub(crate) fn new(text: Bytes) -> Self {
        Self { text }
    }

    /// The first word, by convention in capitals; empty if the text is not UTF-8.
    #[must_use]
    pub fn code(&self) -> &str {
        let mut words = self.text.split(|&byte| byte == b' ');
        std::str::from_utf8(words.next().unwrap_or_default()).unwrap_or_default()
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the server does not know if the command was executed: it sent it on to another node.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.text.starts_with(OUTCOME_UNKNOWN)
    }

    /// Whether it refused the command for now: executed nothing of it if it has one key, else perhaps a part.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(
            self.code(),
            "TRYAGAIN" | "CLUSTERDOWN" | "BUSY" | "READONLY" | "LOADING"
        )
    }

    /// Where a MOVED points: `host:port`. An empty host stands for the one that was asked, `asked`.
    pub(crate) fn moved_to(&self, asked: &str) -> Option<String> {
        let text = std::str::from_utf8(&self.text).ok()?;
        let mut words = text.strip_prefix("MOVED ")?.split(' ');
        let _slot: u16 = words.next()?.parse().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        crate::topology::address(host, port, asked)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.text), f)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::ServerError;

    fn moved_to(text: &'static str) -> Option<String> {
        ServerError::new(Bytes::from_static(text.as_bytes())).moved_to("10.0.0.1:6379")
    }

    #[test]
    fn a_redirection_names_a_node() {
        assert_eq!(moved_to("MOVED 7 host:7001").as_deref(), Some("host:7001"));
        assert_eq!(moved_to("MOVED 7 ::1:7001").as_deref(), Some("[::1]:7001"));
        assert_eq!(moved_to("MOVED 7 :7001").as_deref(), Some("10.0.0.1:7001"));
        let malformed = [
            "MOVED",
            "MOVED 7",
            "MOVED 7 x",
            "MOVED x a:1",
            "MOVED 7 a:0",
            "MOVED 7 a:99999",
        ];
        for text in malformed {
            assert_eq!(moved_to(text), None, "{text}");
        }
    }
}

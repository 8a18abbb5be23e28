//! The `[database]` table.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use reqwest::Url;
use sealbus_nats::{NotThere, secret};
use serde::Deserialize;

/// The manager's database: a SQLite file, or a database on a PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Fields")]
pub enum Database {
    /// `path`.
    Sqlite {
        /// The file. Created if it is missing; its directory must exist.
        path: PathBuf,
    },
    /// `url`.
    Postgres {
        /// `postgres://user@host:port/database`, without a password.
        url: Url,
        /// `password_file`: a file with the password and nothing else.
        password_file: Option<PathBuf>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    path: Option<PathBuf>,
    url: Option<String>,
    password_file: Option<PathBuf>,
}

impl TryFrom<Fields> for Database {
    type Error = String;

    // The messages don't repeat the address, because it may contain a password.
    fn try_from(fields: Fields) -> Result<Database, String> {
        match (fields.path, fields.url) {
            (Some(_), Some(_)) => {
                Err("database.path and database.url: keep one, path for SQLite or url for PostgreSQL".to_owned())
            }
            (None, None) => Err("set database.path or database.url: a SQLite file, or the address of a PostgreSQL \
                                 database"
                .to_owned()),
            (Some(_), None) if fields.password_file.is_some() => {
                Err("database.password_file: belongs to database.url; a SQLite file has no password".to_owned())
            }
            (Some(path), None) if path.as_os_str().is_empty() => {
                Err("database.path: names no file; expected such as /var/lib/sealbus/manager.db".to_owned())
            }
            (Some(path), None) => Ok(Database::Sqlite { path }),
            (None, Some(url)) => Ok(Database::Postgres { url: parse(&url)?, password_file: fields.password_file }),
        }
    }
}

impl Database {
    /// Whether this is a SQLite file that does not exist, so that opening it would create a new one.
    pub fn is_missing(&self) -> bool {
        matches!(self, Database::Sqlite { path } if !path.exists())
    }

    /// The directory of the SQLite file.
    pub fn directory(&self) -> Option<PathBuf> {
        let Database::Sqlite { path } = self else { return None };
        Some(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned())
    }

    /// What is missing or unusable. Opens nothing.
    pub(super) fn not_there(&self) -> Vec<NotThere> {
        let mut found = Vec::new();
        let mut add =
            |field: &str, problem: String| found.push(NotThere { field: format!("database.{field}"), problem });
        match self {
            Database::Sqlite { path } => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
                    add("path", format!("the directory {} does not exist: make or mount it", parent.display()));
                } else if path.is_dir() {
                    add("path", format!("{} is a directory: name a file in it", path.display()));
                } else if let Some(error) = not_writable(parent.unwrap_or(Path::new("."))) {
                    // SQLite keeps its own files next to the database.
                    add("path", format!("cannot write into its directory: {error}"));
                }
            }
            Database::Postgres { password_file: Some(path), .. } => {
                if let Err(error) = secret::read(path) {
                    add("password_file", format!("cannot read {}: {error}", path.display()));
                }
                if let Some(problem) = secret::exposed(path) {
                    add("password_file", problem);
                }
            }
            Database::Postgres { .. } => {}
        }
        found
    }
}

fn not_writable(directory: &Path) -> Option<std::io::Error> {
    use rustix::fs::{Access, access, statvfs};
    let is_read_only = |mount: &rustix::fs::StatVfs| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    match access(directory, Access::WRITE_OK | Access::EXEC_OK).and_then(|()| statvfs(directory)) {
        Err(error) => Some(error.into()),
        Ok(mount) if is_read_only(&mount) => Some(std::io::ErrorKind::ReadOnlyFilesystem.into()),
        Ok(_) => None,
    }
}

/// For logs: the database without its options.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite { path } => write!(f, "{}", path.display()),
            Database::Postgres { url, .. } => {
                let user = Some(url.username()).filter(|user| !user.is_empty()).map(|user| format!("{user}@"));
                let port = url.port().map(|port| format!(":{port}"));
                let (user, port) = (user.unwrap_or_default(), port.unwrap_or_default());
                write!(f, "postgres://{user}{}{port}{}", url.host_str().unwrap_or_default(), url.path())
            }
        }
    }
}

fn parse(text: &str) -> Result<Url, String> {
    const FORM: &str = "postgres://user@host:5432/database";
    let url = Url::parse(text).map_err(|error| format!("database.url: {error}; expected {FORM}"))?;
    if url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password") {
        return Err(
            "database.url: must not hold the password; put it into a file that only the manager can read, and \
                    name that in database.password_file"
                .to_owned(),
        );
    }
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(format!("database.url: begins with {}://; expected {FORM}", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("database.url: names no host; expected {FORM} (a socket's directory goes into ?host=)"));
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(format!("database.url: names no database; expected {FORM}"));
    }
    Ok(url)
}

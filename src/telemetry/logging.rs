//! Log output: text for people or one JSON object a line, on standard error, at a level that can be changed.

use std::fmt::Debug;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing::field::Field;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::clean::{CleanJson, clean};

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LogLevelHandle(reload::Handle<LevelFilter, Registry>);

/// A second set-up in one process.
#[derive(Debug, thiserror::Error)]
#[error("logging is set up already")]
pub struct AlreadySetUp;

impl LogLevelHandle {
    /// From now on logs `level` and what is more severe.
    pub fn set(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, and then there is nobody to tell.
        let _ = self.0.reload(level);
    }
}

/// Who reads standard error, and so how a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// A person at a terminal who wants colours.
    Terminal,
    /// A file, a pipe, a container's log, or a terminal without colours.
    Plain,
    /// systemd's journal: it knows the time, and takes `<4>` at the beginning of a line as its priority (sd-daemon(3)).
    Journal,
}

impl Reader {
    /// `journal` is `JOURNAL_STREAM`, device and inode of the journal's socket (systemd.exec(5)); `stderr` are those of
    /// standard error. `no_color` is `NO_COLOR` (no-color.org): set to anything, it means no colours.
    fn of(journal: Option<&str>, stderr: Option<(u64, u64)>, terminal: bool, no_color: Option<&str>) -> Self {
        let journal = journal.and_then(|text| text.split_once(':'));
        let journal = journal.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
        match () {
            () if journal.is_some() && journal == stderr => Self::Journal,
            () if terminal && no_color.is_none_or(str::is_empty) => Self::Terminal,
            () => Self::Plain,
        }
    }

    fn of_this_process() -> Self {
        let stderr = std::io::stderr();
        let stat = rustix::fs::fstat(stderr.as_fd()).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let variable = |name| std::env::var(name).ok();
        let (journal, no_color) = (variable("JOURNAL_STREAM"), variable("NO_COLOR"));
        Self::of(journal.as_deref(), stat, stderr.is_terminal(), no_color.as_deref())
    }
}

/// A format whose lines begin with their priority.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// syslog's priority of a level (RFC 5424 §6.2.1).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// One field of a line: what it holds may come from anywhere.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let text = format!("{value:?}");
    let text = clean(&text);
    match (field.name(), writer.has_ansi_escapes()) {
        ("message", _) => write!(writer, "{text}"),
        (name, true) => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{text}"),
        (name, false) => write!(writer, "{name}={text}"),
    }
}

/// Sets logging up for the whole process.
pub fn set_up(level: LevelFilter, json: bool) -> Result<LogLevelHandle, AlreadySetUp> {
    let (filter, handle) = reload::Layer::new(level);
    let reader = Reader::of_this_process();
    let output = fmt::layer().with_writer(std::io::stderr).with_ansi(reader == Reader::Terminal);
    let clean_json = || CleanJson(std::io::stderr());
    let text = || debug_fn(write_field).delimited(" ");
    let output = match (json, reader) {
        (false, Reader::Terminal | Reader::Plain) => output.fmt_fields(text()).boxed(),
        (false, Reader::Journal) => {
            output.fmt_fields(text()).event_format(WithPriority(fmt::format().without_time())).boxed()
        }
        (true, Reader::Terminal | Reader::Plain) => output.json().flatten_event(true).with_writer(clean_json).boxed(),
        // Those who read JSON out of the journal find the time where it always is.
        (true, Reader::Journal) => {
            let output = output.json().map_event_format(|format| WithPriority(format.flatten_event(true)));
            output.with_writer(clean_json).boxed()
        }
    };
    // The filter sits next to the registry, so that what it refuses costs nothing further up.
    let subscriber = tracing_subscriber::registry().with(filter).with(output);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadySetUp)?;
    Ok(LogLevelHandle(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_decides_how_lines_begin() {
        use Reader::{Journal, Plain, Terminal};
        let stderr = Some((9, 1234));
        for (row, journal, terminal, no_color, expected) in [
            ("a terminal", None, true, None, Terminal),
            ("a pipe", None, false, None, Plain),
            ("no colours, please", None, true, Some("1"), Plain),
            ("an empty NO_COLOR asks for nothing", None, true, Some(""), Terminal),
            ("the journal", Some("9:1234"), false, None, Journal),
            ("standard error leads elsewhere", Some("9:1235"), false, None, Plain),
            ("a variable inherited by a shell", Some("9:1235"), true, None, Terminal),
            ("not what systemd writes", Some("journal"), false, None, Plain),
        ] {
            assert_eq!(Reader::of(journal, stderr, terminal, no_color), expected, "{row}");
        }
        assert_eq!(Reader::of(None, None, false, None), Plain, "nothing is known of either");
    }
}

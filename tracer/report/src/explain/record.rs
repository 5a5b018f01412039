//! Records of a log: each line without the colours, quotes, times, priorities and hosts that consoles, loggers and mail put around
//! a kernel message. JSON of `dmesg` and `journalctl` is taken apart here as well.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longest message that is looked at, bytes; `printk()` cuts at 1 KiB.
const LONGEST: usize = 16 << 10;
/// Prefixes inside one another: a quoted line of a logger with a host, a time, a CPU and a thread has six.
const PREFIXES: usize = 16;

/// One message of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Number of its line, from 1.
    pub(super) line: usize,
    /// Seconds since boot, where the line has them.
    pub(super) time: Option<f64>,
    /// The line has a time or a priority: it is no continuation of the one before.
    pub(super) has_prefix: bool,
    /// How often the logger repeated it, besides this one.
    pub(super) repeated: u64,
    /// What the kernel printed, with driver and device.
    pub(super) text: String,
}

/// Calls `take` with each record of a log.
pub(super) fn each(log: &str, mut take: impl FnMut(Record)) {
    let alone = !log.contains('\n');
    // The time that a pretty JSON object gave before its message.
    let mut json_time = None;
    let is_quoted = is_quoted_printable(log);
    // A line of mail that goes on in the next, and the number of its first.
    let mut begun: Option<(usize, String)> = None;
    for (at, line) in log.split('\n').enumerate() {
        let (at, line) = if is_quoted {
            let (first, mut whole) = begun.take().unwrap_or((at, String::new()));
            let line = line.trim_end_matches('\r');
            if let Some(part) = line.strip_suffix('=').filter(|_| whole.len() < LONGEST) {
                whole.push_str(part);
                begun = Some((first, whole));
                continue;
            }
            whole.push_str(line);
            (first, Cow::Owned(unquoted(&whole)))
        } else {
            (at, Cow::Borrowed(line))
        };
        let line = without_tags(&line);
        for (index, piece) in line.split('\r').filter(|piece| !piece.is_empty()).enumerate() {
            let number = if alone { index } else { at } + 1;
            from_line(piece, number, &mut json_time, &mut take);
        }
    }
    if let Some((first, rest)) = begun {
        from_line(&unquoted(&rest), first + 1, &mut json_time, &mut take);
    }
}

/// Mail in quoted-printable, with or without its header: lines end with `=` at its width, and `=` itself is `=3D`.
fn is_quoted_printable(log: &str) -> bool {
    let is_soft = |line: &str| (70..=76).contains(&line.len()) && line.ends_with('=');
    log.contains("Content-Transfer-Encoding: quoted-printable")
        || log.contains("=3D") && log.lines().any(|line| is_soft(line.trim_end_matches('\r')))
}

/// `=3D` and the like as what they stand for.
fn unquoted(line: &str) -> String {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|_| *first == b'=').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line without the tags of a web page; those that end a line there end one here, as a carriage return. The kernel's own words in
/// such brackets (`<TASK>`, `<IRQ>`, `<4>`) are none.
fn without_tags(line: &str) -> Cow<'_, str> {
    const WITHIN: [&str; 14] =
        ["a", "b", "code", "em", "font", "i", "kbd", "samp", "span", "strong", "td", "th", "tt", "u"];
    const BETWEEN: [&str; 10] = ["blockquote", "br", "div", "li", "ol", "p", "pre", "table", "tr", "ul"];
    if !line.contains('<') {
        return Cow::Borrowed(line);
    }
    let mut text = String::new();
    let mut rest = line;
    let mut is_changed = false;
    while let Some(at) = rest.find('<') {
        let inside = rest[at + 1..].trim_start_matches('/');
        let name = &inside[..inside.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inside.len())];
        let ends = inside[name.len()..].starts_with(['>', ' ', '/']);
        let lower = name.to_ascii_lowercase();
        let (within, between) = (WITHIN.contains(&lower.as_str()), BETWEEN.contains(&lower.as_str()));
        if let Some(end) = inside.find('>').filter(|_| ends && (within || between)) {
            text.push_str(&rest[..at]);
            if between {
                text.push('\r');
            }
            rest = &inside[end + 1..];
            is_changed = true;
        } else {
            text.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
        }
    }
    if !is_changed {
        return Cow::Borrowed(line);
    }
    text.push_str(rest);
    Cow::Owned(text)
}

fn from_line(line: &str, number: usize, json_time: &mut Option<f64>, take: &mut impl FnMut(Record)) {
    // JSON may be one long line; of others no more is looked at than a message has.
    let is_json = line.contains(['{', '[']) && line.contains("\":");
    let is_several = is_several(line);
    let line = clean(if is_json || is_several { line } else { within(line) });
    let line = line.trim();
    let json = line.strip_prefix("data:").unwrap_or(line).trim_start();
    let mut give = |time: Option<f64>, text: &str| {
        for text in text.trim_end_matches('\n').split('\n') {
            let mut record = plain(text, number);
            record.has_prefix = true;
            record.time = record.time.or(time);
            take(record);
        }
    };
    if json.len() > 2 && json.starts_with(['{', '[']) && json.ends_with(['}', ']', ',']) {
        let mut found = Vec::new();
        // What was read before something is damaged counts.
        let _ = Walk(&mut found).deserialize(&mut serde_json::Deserializer::from_str(json));
        if !found.is_empty() {
            for (time, text) in &found {
                give(*time, text);
            }
            return;
        }
    }
    if let Some((key, value)) = json_member(json) {
        if MESSAGE_KEYS.contains(&key) {
            let mut texts = Vec::new();
            let _ = MessageText(&mut texts).deserialize(&mut serde_json::Deserializer::from_str(value));
            for text in &texts {
                give(json_time.take(), text);
            }
            return;
        }
        if TIME_KEYS.iter().any(|(name, _)| *name == key) {
            *json_time = seconds(key, value.trim_end_matches(',').trim().trim_matches('"'));
            return;
        }
    }
    if is_several {
        line.split("\\n").for_each(|piece| take(plain(piece.trim_matches(['\'', '"', ' ']), number)));
        return;
    }
    if let Some(field) = longest_field(line) {
        take(plain(field, number));
        return;
    }
    // `journalctl -o verbose` and `-o export`.
    let text = line.strip_prefix("MESSAGE=").unwrap_or(line);
    take(plain(text, number));
}

/// Several messages in one line, as a programming language prints a text: `…\n[    1.0] …\n`.
fn is_several(line: &str) -> bool {
    line.match_indices("\\n").any(|(at, _)| {
        let behind = line[at + 2..].trim_start_matches(' ');
        let mut stamp = behind.strip_prefix(['[', '<']).unwrap_or_default().trim_start_matches(' ').bytes();
        stamp.next().is_some_and(|first| first.is_ascii_digit())
    })
}

/// The longest field of a line of a table (CSV) whose fields are in quotes.
fn longest_field(line: &str) -> Option<&str> {
    let fields = line.strip_prefix('"')?.strip_suffix('"')?;
    fields.contains("\",\"").then(|| fields.split("\",\"").max_by_key(|field| field.len()))?
}

/// A pretty JSON object's `"key": value`.
fn json_member(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.strip_prefix('"')?.split_once('"')?;
    Some((key, value.trim_start().strip_prefix(':')?.trim_start()))
}

/// A line without JSON.
fn plain(line: &str, number: usize) -> Record {
    let mut record = Record { line: number, ..Record::default() };
    let mut text = Cow::Borrowed(line.trim());
    for _ in 0..PREFIXES {
        let Some(rest) = without_prefix(&text, &mut record) else { break };
        text = Cow::Owned(rest.trim_start().to_owned());
    }
    if let Some((count, rest)) = repeated(&text) {
        record.repeated = count;
        let inner = plain(rest, number);
        return Record { repeated: count, has_prefix: true, time: inner.time.or(record.time), ..inner };
    }
    Record { text: within(text.trim_end()).to_owned(), ..record }
}

/// The beginning of a line, as long as a message can be.
fn within(line: &str) -> &str {
    let end = line.floor_char_boundary(LONGEST);
    &line[..end]
}

/// rsyslog's "message repeated 5 times: [ … ]".
fn repeated(text: &str) -> Option<(u64, &str)> {
    let rest = text.strip_prefix("message repeated ")?;
    let (count, rest) = rest.split_once(" times: [")?;
    Some((count.parse::<u64>().ok()?.saturating_sub(1), rest.trim_end().strip_suffix(']').unwrap_or(rest)))
}

/// A line without escape sequences, control characters and HTML entities.
fn clean(line: &str) -> Cow<'_, str> {
    let dirty = |c: char| c.is_control() || c == '\u{a0}' || c == '\u{feff}';
    if !line.contains(dirty) && !line.contains('&') {
        return Cow::Borrowed(line);
    }
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.peek() {
                // CSI: parameters, then one letter.
                Some('[') => {
                    rest.next();
                    while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
                // OSC: up to BEL, or the backslash of ST.
                Some(']') => while rest.next().is_some_and(|c| c != '\u{7}' && c != '\\') {},
                _ => drop(rest.next()),
            },
            // A colour whose escape character was lost in a copy shows as "^[[32m"; see below.
            '\t' | '\u{a0}' => text.push(' '),
            c if dirty(c) => {}
            c => text.push(c),
        }
    }
    if text.contains('&') {
        for (entity, c) in [
            ("&gt;", ">"),
            ("&lt;", "<"),
            ("&quot;", "\""),
            ("&#34;", "\""),
            ("&#39;", "'"),
            ("&#x27;", "'"),
            ("&nbsp;", " "),
            ("&amp;", "&"),
        ] {
            if text.contains(entity) {
                text = text.replace(entity, c);
            }
        }
    }
    Cow::Owned(text)
}

/// One prefix less; `None` when there is none.
fn without_prefix(text: &str, record: &mut Record) -> Option<String> {
    let marked = |record: &mut Record, rest: &str| {
        record.has_prefix = true;
        Some(rest.to_owned())
    };
    // A colour whose escape character was printed as two others.
    if let Some(rest) = text.strip_prefix("^[[") {
        return Some(rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').get(1..)?.to_owned());
    }
    if let Some(rest) = text.strip_prefix("> ").or_else(|| text.strip_prefix(">>")).or_else(|| text.strip_prefix("| "))
    {
        return Some(rest.to_owned());
    }
    if text.starts_with('>') && text.len() > 1 {
        return Some(text[1..].to_owned());
    }
    if let Some(rest) = numbered(text) {
        return Some(rest.to_owned());
    }
    if let Some(rest) = priority(text).or_else(|| kmsg(text, record)).or_else(|| facility(text)) {
        return marked(record, rest);
    }
    if let Some((inside, rest)) = bracketed(text) {
        if record.time.is_none() {
            // Huawei's has a unit: `[   12.345678s]`.
            record.time = inside.split_whitespace().next().and_then(|word| word.trim_end_matches('s').parse().ok());
        }
        return marked(record, rest);
    }
    if let Some(rest) = logcat(text) {
        record.has_prefix = true;
        return Some(rest);
    }
    dated(text).and_then(|rest| marked(record, rest))
}

/// `grep -n`: the number of the line, before what a kernel message begins with.
fn numbered(text: &str) -> Option<&str> {
    let (number, rest) = text.split_once(':')?;
    let is_number = !number.is_empty() && number.len() <= 9 && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && rest.starts_with(['[', '<'])).then_some(rest)
}

/// `<4>`.
fn priority(text: &str) -> Option<&str> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    (!number.is_empty() && number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// `/dev/kmsg` and the extended netconsole: `[release,]priority,sequence,microseconds,flags[,…];`.
fn kmsg<'a>(text: &'a str, record: &mut Record) -> Option<&'a str> {
    let (head, rest) = text.split_once(';')?;
    if head.len() > 128 || head.contains(' ') {
        return None;
    }
    let fields: Vec<&str> = head.split(',').collect();
    let is_number = |field: &&str| !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
    let at = fields.windows(3).position(|three| three.iter().all(&is_number))?;
    if at > 1 || fields.len() < at + 4 {
        return None;
    }
    record.time = fields[at + 2].parse::<f64>().ok().map(|microseconds| microseconds / 1e6);
    Some(rest)
}

/// `dmesg -x`: `kern  :warn  : `.
fn facility(text: &str) -> Option<&str> {
    const FACILITIES: [&str; 6] = ["kern", "user", "daemon", "auth", "syslog", "mail"];
    let (facility, rest) = text.split_once(':')?;
    if !FACILITIES.contains(&facility.trim_end()) {
        return None;
    }
    let (level, rest) = rest.split_once(':')?;
    let level = level.trim();
    ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"].contains(&level).then_some(rest)
}

/// `[   12.345678]`, `[    T1]`, `[ C0]`, `[2:    kworker/2:1:  150]`, `[+0.000010]`, `[Nov23 12:00]`, `[Thu Nov 23 12:00:01 2023]`;
/// `MediaTek`'s `.(0)` behind the time, Huawei's `[pid:311,cpu4,kworker/u16:3]`, and Samsung's `I[0:  swapper/0:    0]` with the level.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix(".(").or_else(|| text.strip_prefix("-(")) {
        let (cpu, rest) = rest.split_once(')')?;
        return (!cpu.is_empty() && cpu.bytes().all(|byte| byte.is_ascii_digit())).then_some(("", rest));
    }
    let levelled = text.strip_prefix(['V', 'D', 'I', 'W', 'E', 'F']).filter(|rest| rest.starts_with('['));
    let (inside, rest) = levelled.unwrap_or(text).strip_prefix('[')?.split_once(']')?;
    let first = inside.trim_start();
    let is_word = |word: &str| DAYS.contains(&word) || MONTHS.contains(&word);
    let begins = first.starts_with(|c: char| c.is_ascii_digit() || c == '+')
        || first.strip_prefix(['T', 'C']).is_some_and(|number| number.trim().bytes().all(|byte| byte.is_ascii_digit()))
        || first.starts_with("pid:")
        || first.get(..3).is_some_and(is_word);
    // "[0000000012345678] call_site": an address is no prefix, nor is "[1]".
    let fits = inside.len() <= 64 && inside.chars().any(|c| c.is_ascii_digit());
    (begins && fits && !(rest.is_empty() && inside.len() < 3)).then_some((inside, rest))
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// logcat's threadtime (`11-23 12:00:01.123  root  0  0 W mmc0    : …`) and brief (`W/mmc0 (    0): …`): what the kernel wrote before
/// its first colon is the tag there.
fn logcat(text: &str) -> Option<String> {
    const LEVELS: &str = "VDIWEFS";
    if text.as_bytes().get(1) == Some(&b'/') && text.starts_with(|c| LEVELS.contains(c)) {
        let (tag, rest) = text[2..].split_once('(')?;
        let (pid, rest) = rest.split_once("):")?;
        let is_pid = pid.trim().bytes().all(|byte| byte.is_ascii_digit());
        return is_pid.then(|| tagged(tag, rest));
    }
    let mut words = text.split_whitespace();
    let (date, time) = (words.next()?, words.next()?);
    let numbers = |word: &str, by: char, least: usize| {
        word.split(by).count() >= least && word.chars().all(|c| c.is_ascii_digit() || c == by || c == '.')
    };
    if !numbers(date, '-', 2) || !numbers(time, ':', 3) {
        return None;
    }
    let mut rest = text[text.find(time)? + time.len()..].trim_start();
    for _ in 0..4 {
        let (word, after) = rest.split_once(' ')?;
        if word.len() == 1 && LEVELS.contains(word) {
            let (tag, message) = after.split_once(':')?;
            return Some(tagged(tag, message));
        }
        rest = after.trim_start();
    }
    None
}

fn tagged(tag: &str, message: &str) -> String {
    match tag.trim() {
        "" | "kernel" => message.trim_start().to_owned(),
        tag => format!("{tag}: {}", message.trim_start()),
    }
}

/// Dates and hosts of loggers, up to `kernel: `; and dates alone.
fn dated(text: &str) -> Option<&str> {
    if let Some(at) = text.find("kernel: ").filter(|at| *at <= 120) {
        let before = &text[..at];
        // "Disabling lock debugging due to kernel: " is no logger's.
        if at == 0 || before.ends_with(' ') && before.split_whitespace().count() <= 7 && !before.contains(": ") {
            return Some(&text[at + "kernel: ".len()..]);
        }
    }
    let (word, rest) = text.split_once(' ')?;
    let is_date = |word: &str, by: &[char]| {
        word.len() >= 8
            && word.chars().filter(|c| by.contains(c)).count() >= 2
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || "T:.-+Z,/".contains(c))
    };
    if is_date(word, &[':', '-', '/']) {
        return Some(rest);
    }
    if MONTHS.contains(&word) {
        let rest = rest.trim_start().split_once(' ')?.1;
        let (time, rest) = rest.split_once(' ')?;
        return (time.matches(':').count() == 2).then_some(rest);
    }
    None
}

/// Keys of messages: `dmesg` and `journalctl`, then what containers and collectors of logs write (Docker, Elastic, Loki,
/// Ansible, Google's, Splunk).
const MESSAGE_KEYS: [&str; 9] = ["msg", "MESSAGE", "message", "log", "line", "text", "stdout", "textPayload", "_raw"];
/// Keys of times, and how many of their units are a second.
const TIME_KEYS: [(&str, f64); 3] =
    [("time", 1.0), ("_SOURCE_MONOTONIC_TIMESTAMP", 1e6), ("__MONOTONIC_TIMESTAMP", 1e6)];

fn seconds(key: &str, value: &str) -> Option<f64> {
    let (_, units) = TIME_KEYS.iter().find(|(name, _)| *name == key)?;
    Some(value.trim().parse::<f64>().ok()? / units)
}

/// Messages wherever they are in JSON, without keeping the rest.
struct Walk<'a>(&'a mut Vec<(Option<f64>, String)>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let first = self.0.len();
        let mut time = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if MESSAGE_KEYS.contains(&key.as_ref()) {
                let mut texts = Vec::new();
                map.next_value_seed(MessageText(&mut texts))?;
                self.0.extend(texts.into_iter().map(|text| (None, text)));
            } else if TIME_KEYS.iter().any(|(name, _)| *name == key) {
                let value = map.next_value::<serde_json::Value>()?;
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                time = time.or(seconds(&key, &text));
            } else {
                map.next_value_seed(Walk(self.0))?;
            }
        }
        for (known, _) in &mut self.0[first..] {
            *known = known.or(time);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Walk(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A message: a string, or, where it is no UTF-8 (colours), an array of bytes as journalctl writes it.
struct MessageText<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for MessageText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageText<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a message")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let lines: Vec<_> = text.split('\n').map(clean).collect();
        self.0.push(lines.join("\n"));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element::<ByteOrAny>()? {
            if let ByteOrAny::Byte(byte) = byte {
                bytes.push(byte);
            }
        }
        self.0.push(clean(&String::from_utf8_lossy(&bytes)).into_owned());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// An element of an array of bytes.
enum ByteOrAny {
    Byte(u8),
    Any,
}

impl<'de> Deserialize<'de> for ByteOrAny {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(value.as_u64().and_then(|number| u8::try_from(number).ok()).map_or(Self::Any, Self::Byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &str) -> Vec<String> {
        let mut found = Vec::new();
        each(log, |record| found.push(record.text));
        found
    }

    fn one(line: &str) -> Record {
        let mut found = Vec::new();
        each(line, |record| found.push(record));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        found.remove(0)
    }

    #[test]
    fn every_prefix_leaves_the_kernels_own_words() {
        for line in [
            "mmc0: swiotlb",
            "[   12.345678] mmc0: swiotlb",
            "<4>[   12.345678] mmc0: swiotlb",
            "[   12.345678][   T90] mmc0: swiotlb",
            "[   12.345678][    C0] mmc0: swiotlb",
            "<4>[   12.345678] .(0)[123:kworker/0:1]mmc0: swiotlb",
            "[   12.345678]  [2:    kworker/2:1:  150] mmc0: swiotlb",
            "4,1235,12345678,-;mmc0: swiotlb",
            "6.4.0,4,1235,12345678,-,ncfrag=0/9;mmc0: swiotlb",
            "kern  :warn  : [   12.345678] mmc0: swiotlb",
            "Nov 23 12:00:01 box kernel: [   12.345678] mmc0: swiotlb",
            "Nov 23 12:00:01 box kernel: mmc0: swiotlb",
            "2023-11-23T12:00:01.123456+01:00 box kernel: mmc0: swiotlb",
            "[Thu Nov 23 12:00:01 2023] mmc0: swiotlb",
            "[Nov23 12:00] mmc0: swiotlb",
            "[  +0.000010] mmc0: swiotlb",
            "11-23 12:00:01.123     0     0 W mmc0    : swiotlb",
            "11-23 12:00:01.123  root     0     0 W mmc0    : swiotlb",
            "W/mmc0    (    0): swiotlb",
            "> > [   12.345678] mmc0: swiotlb",
            "\u{1b}[32m[   12.345678] \u{1b}[0m\u{1b}[33mmmc0: \u{1b}[0mswiotlb",
            "{\"PRIORITY\":\"4\",\"MESSAGE\":\"mmc0: swiotlb\"}",
            "data: {\"MESSAGE\":\"mmc0: swiotlb\"}",
            "{\"dmesg\":[{\"pri\":4,\"time\":12.4,\"msg\":\"mmc0: swiotlb\"}]}",
            "\u{1e}{\"MESSAGE\":\"mmc0: swiotlb\"}",
            "         \"msg\": \"mmc0: swiotlb\"",
            "\t\"MESSAGE\" : \"mmc0: swiotlb\",",
            "    MESSAGE=mmc0: swiotlb",
            "12:00:01.123 mmc0: swiotlb",
            "2023-11-23 12:00:01 mmc0: swiotlb",
            "[   12.345678s][pid:123,cpu4,kworker/u16:3]mmc0: swiotlb",
            "<4>[   12.345678]  W[6:    kworker/6:2:  240] mmc0: swiotlb",
            "991:[   12.345678] mmc0: swiotlb",
            "{\"log\":\"[   12.345678] mmc0: swiotlb\\n\",\"stream\":\"stdout\"}",
            "{\"@timestamp\":\"2023-11-23T12:00:01Z\",\"host\":{\"name\":\"a\"},\"message\":\"mmc0: swiotlb\"}",
            "<td class=\"line\"><code>mmc0: swiotlb</code></td>",
            "<pre>mmc0: swiotlb<br/></pre>",
        ] {
            assert_eq!(one(line).text, "mmc0: swiotlb", "{line:?}");
        }
    }

    #[test]
    fn times_are_seconds_since_boot() {
        for line in [
            "[   12.500000] x",
            "4,1235,12500000,-;x",
            "{\"MESSAGE\":\"x\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"12500000\"}",
            "{\"time\": 12.5, \"msg\": \"x\"}",
            "[Thu Nov 23 12:00:01 2023] [   12.5] x",
        ] {
            assert_eq!(one(line).time, Some(12.5), "{line}");
        }
        assert_eq!(one("Nov 23 12:00:01 box kernel: x").time, None);
    }

    #[test]
    fn a_message_as_bytes_is_read_without_its_colours() {
        assert_eq!(one("{\"MESSAGE\":[27,91,51,50,109,120,58,32,121]}").text, "x: y");
    }

    #[test]
    fn pretty_json_gives_one_record_for_each_message() {
        let log = "{\n   \"dmesg\": [\n      {\n         \"pri\": 4,\n         \"time\": 1.5,\n         \"msg\": \"a \\\"b\\\"\"\n      }\n   ]\n}\n";
        let mut found = Vec::new();
        each(log, |record| found.push((record.line, record.time, record.text)));
        assert!(found.contains(&(6, Some(1.5), "a \"b\"".to_owned())), "{found:?}");
    }

    #[test]
    fn carriage_returns_end_lines_too() {
        assert_eq!(texts("a\rb\rc"), ["a", "b", "c"]);
        assert_eq!(texts("a\r\nb\r\n"), ["a", "b"]);
    }

    #[test]
    fn mail_in_quoted_printable_is_decoded_and_its_lines_joined() {
        let soft = "[   12.500000] mmc0: swiotlb buffer is full (sz: 65536 bytes), total 512=";
        let log = format!("a=3Db\r\n{soft}\r\n (slots)\r\nc");
        let mut found = Vec::new();
        each(&log, |record| found.push((record.line, record.text)));
        let whole = "mmc0: swiotlb buffer is full (sz: 65536 bytes), total 512 (slots)".to_owned();
        assert_eq!(found, [(1, "a=b".to_owned()), (2, whole), (4, "c".to_owned())]);
        assert_eq!(texts("root=\nconsole=3Dx"), ["root=", "console=3Dx"]);
    }

    #[test]
    fn lines_of_a_page_that_tags_end_are_lines() {
        assert_eq!(texts("<p>a<br>b<BR/>c</p>"), ["a", "b", "c"]);
    }

    #[test]
    fn entities_of_a_page_are_decoded() {
        assert_eq!(one("adjusted 32768 -&gt; 16384 &amp;lt;").text, "adjusted 32768 -> 16384 &lt;");
    }

    #[test]
    fn a_loggers_count_of_repeats_is_kept() {
        let record = one("Nov 23 12:00:01 box kernel: message repeated 5 times: [ [   12.5] mmc0: swiotlb]");
        assert_eq!((record.repeated, record.text.as_str(), record.time), (4, "mmc0: swiotlb", Some(12.5)));
    }

    #[test]
    fn words_that_look_like_prefixes_stay() {
        for line in [
            "usb 1-1: new device",
            "DMA32    empty",
            "kernel BUG at mm/slub.c:1",
            "pc : memcpy+0x1/0x2",
            "[drm] x",
            "<TASK>",
            "a <b@c.d> e",
        ] {
            assert_eq!(one(line).text, line);
        }
    }
}

//! The scripts that Redis runs: each does as one step what would be wrong in two, or keeps in
//! Redis what need not leave it.
//!
//! A script runs to its end, and nobody else is served meanwhile: what a script reads is bounded
//! by entries and by bytes. Reads use `pcall` so that an error arrives as the server words it.

use ::redis::{Cmd, Script};

/// The state of the stream, in numbers and IDs only: XINFO alone would send the first and the
/// last entry along, and with FULL it does not even touch the last one. KEYS: stream. Answers 0 where there is none, else the newest ID, length,
/// entries added (-1: not counted), first ID (empty: none), largest deleted ID, nodes.
const STATE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local info = redis.pcall('XINFO', 'STREAM', KEYS[1], 'FULL', 'COUNT', 1)
if info.err then return info end
local state = {}
for i = 1, #info, 2 do state[info[i]] = info[i + 1] end
local first = state['entries'][1]
return {state['last-generated-id'], state['length'], state['entries-added'] or -1,
    first and first[1] or '', state['max-deleted-entry-id'] or '0-0', state['radix-tree-keys']}";

/// Entries up to a budget of bytes, whatever their sizes. They are read a few at a time, one at
/// a time behind a large one. KEYS: stream. ARGV: start, end, most entries, budget, entries at a
/// time. Answers 1 if it stopped at the budget (else 0), and the entries, at least one.
const BOUNDED: &str = r"
local start, left, budget = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local most, step, n, bytes, entries = tonumber(ARGV[5]), 1, 0, 0, {}
while left > 0 do
    local asked = math.min(step, left)
    local part = redis.pcall('XRANGE', KEYS[1], start, ARGV[2], 'COUNT', asked)
    if part.err then return part end
    local before = bytes
    for i = 1, #part do
        local fields = part[i][2]
        for j = 1, #fields do bytes = bytes + #fields[j] + 16 end
        bytes = bytes + 32
        if n > 0 and bytes > budget then return {1, entries} end
        n = n + 1
        entries[n] = part[i]
    end
    if #part < asked then return {0, entries} end
    local last = part[#part][1]
    if last == '18446744073709551615-18446744073709551615' then return {0, entries} end
    start, left = '(' .. last, left - #part
    if bytes - before > 32768 then step = 1 else step = math.min(2 * step, most) end
end
return {0, entries}";

/// Walks over entries in either direction without sending them. KEYS: stream. ARGV: XRANGE or
/// XREVRANGE, where to begin and to end, most entries, budget of bytes, entries at a time.
/// Answers how many there were and the ID of the last of them.
const WALK: &str = r"
local start, left, budget = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local most, step, n, id = tonumber(ARGV[6]), 1, 0, ''
while left > 0 and budget > 0 do
    local asked = math.min(step, left)
    local part = redis.pcall(ARGV[1], KEYS[1], start, ARGV[3], 'COUNT', asked)
    if part.err then return part end
    if #part == 0 then break end
    local bytes = 0
    for i = 1, #part do
        local fields = part[i][2]
        bytes = bytes + 32 + 16 * #fields
        for j = 2, #fields, 2 do bytes = bytes + #fields[j] end
    end
    n, id, budget, left = n + #part, part[#part][1], budget - bytes, left - #part
    if #part < asked or id == '18446744073709551615-18446744073709551615' then break end
    start = '(' .. id
    if bytes > 32768 then step = 1 else step = math.min(2 * step, most) end
end
return {n, id}";

/// The newest entry. KEYS: stream. ARGV: most bytes. Answers its ID (empty: none), and itself
/// unless it has more.
const NEWEST: &str = r"
local last = redis.pcall('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last.err then return last end
if not last[1] then return {'', last} end
local fields, bytes = last[1][2], 0
for i = 1, #fields do bytes = bytes + #fields[i] end
if bytes > tonumber(ARGV[1]) then return {last[1][1], {}} end
return {last[1][1], last}";

/// Fields of a hash; what is longer than 1 KiB counts as absent. KEYS: hash. ARGV: names.
const FIELDS: &str = r"
local found = {}
for i = 1, #ARGV do
    found[i] = ''
    local length = redis.pcall('HSTRLEN', KEYS[1], ARGV[i])
    if type(length) == 'table' then return length end
    if length <= 1024 then found[i] = redis.call('HGET', KEYS[1], ARGV[i]) or '' end
end
return found";

/// Sets the cursor if it still is what this program last read or wrote (or already what it is
/// about to write, after an answer that got lost), and with it, as one, what belongs to it in
/// the status. KEYS: cursor, status. ARGV: 1 if the cursor is expected to exist, 0 if not, nothing
/// if neither will do; the first bytes of its expected value, its new value, and pairs of field
/// and value for the status. Answers 1, or the type and the first bytes of what stands in the way.
const SAVE: &str = r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then return {kind} end
local now = redis.call('GETRANGE', KEYS[1], 0, 1024)
local written = kind == 'string' and now == ARGV[3]
local expected = ARGV[1] ~= '' and (ARGV[1] == '1') == (kind == 'string') and now == ARGV[2]
if not written and not expected then return {kind, now} end
ROOM
if not written then redis.call('SET', KEYS[1], ARGV[3]) end
for i = 4, #ARGV, 2 do redis.pcall('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1";

/// Writes fields of the status although memory is full. A script that has written something may
/// go on writing, whatever the version; the field `room` never exists. KEYS: status. ARGV: pairs of
/// field and value.
pub const WRITE: &str = r"
redis.pcall('HDEL', KEYS[1], 'room')
return redis.pcall('HSET', KEYS[1], unpack(ARGV))";

/// On Redis 7 and later a script says for itself that it may write although memory is full.
const MAY_EXCEED: &str = "#!lua flags=allow-oom";
/// Before that, a script that has written something may go on writing. The field never exists.
const FIRST_WRITE: &str = "redis.pcall('HDEL', KEYS[2], 'room')";

/// Copies a measurement to the dead letters although memory is full. A call takes some 8000 words:
/// what has more becomes several copies. KEYS: dead letters, status. ARGV: ID, reason, fields as they
/// are to be written.
const COPY: &str = r"
ROOM
for i = 3, #ARGV, 7000 do
    redis.call('XADD', KEYS[1], '*', '_id', ARGV[1], '_reason', ARGV[2],
        unpack(ARGV, i, math.min(i + 6999, #ARGV)))
end
return 1";

/// Trims a slice of what is sent, unless somebody has moved the cursor meanwhile: what lies
/// behind it is not sent any more. Whole nodes first, which costs Redis nothing for their
/// entries; what is left in the last one in the end. KEYS: cursor, stream. ARGV: the cursor as
/// it is stored, the first ID to keep, entries, the ID of the cursor, the entries that were ever
/// added up to it at least, the oldest ID that the stream may have: another stream is left alone.
/// Answers how many were removed, and 1 if there is more.
const TRIM: &str = r"
if redis.pcall('GETRANGE', KEYS[1], 0, 1024) ~= ARGV[1] then return {0, 0} end
if redis.call('EXISTS', KEYS[2]) == 0 then return {0, 0} end
local info = redis.pcall('XINFO', 'STREAM', KEYS[2], 'FULL', 'COUNT', 1)
if info.err then return info end
local state = {}
for i = 1, #info, 2 do state[info[i]] = info[i + 1] end
if (state['entries-added'] or 0) < tonumber(ARGV[5]) then return {0, 0} end
local function parts(id)
    local ms, seq = string.match(id, '(%d+)-(%d+)')
    return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
end
if parts(state['last-generated-id']) < parts(ARGV[4]) then return {0, 0} end
local first = state['entries'][1]
if first and parts(first[1]) < parts(ARGV[6]) then return {0, 0} end
local removed = redis.pcall('XTRIM', KEYS[2], 'MINID', '~', ARGV[2], 'LIMIT', ARGV[3])
if type(removed) == 'table' then return removed end
if 2 * removed > tonumber(ARGV[3]) then return {removed, 1} end
return {removed + redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2]), 0}";

/// Whether one of the last copies is that of a measurement. KEYS: dead letters. ARGV: its ID.
const COPIED: &str = r"
local start = '+'
for _ = 1, 4 do
    local copy = redis.pcall('XREVRANGE', KEYS[1], start, '-', 'COUNT', 1)
    if copy.err then return copy end
    if not copy[1] then return 0 end
    if copy[1][2][1] == '_id' and copy[1][2][2] == ARGV[1] then return 1 end
    start = '(' .. copy[1][1]
end
return 0";

/// Sets or deletes a key unless it holds something other than a string: without a gap between
/// looking and writing. ARGV: the value, or nothing. Answers 1 or the type that is in the way.
const SET: &str = r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then return kind end
if ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('DEL', KEYS[1]) end
return 1";

/// All scripts, with the hashes under which Redis keeps them.
pub struct Scripts {
    pub state: Script,
    pub bounded: Script,
    pub walk: Script,
    pub newest: Script,
    pub fields: Script,
    pub save: Exceeding,
    pub trim: Script,
    pub copied: Script,
    pub copy: Exceeding,
    pub set: Script,
    pub write: Script,
}

/// A script that may exceed `maxmemory`: for Redis 7 and later, and for what comes before.
pub struct Exceeding([Script; 2]);

impl Exceeding {
    fn new(code: &str) -> Exceeding {
        let flagged = format!("{MAY_EXCEED}\n{}", code.replace("ROOM", ""));
        let before_7 = code.replace("ROOM", FIRST_WRITE);
        Exceeding([flagged, before_7].map(|code| Script::new(&code)))
    }

    pub fn of(&self, before_7: bool) -> Script {
        self.0[usize::from(before_7)].clone()
    }
}

impl Scripts {
    pub fn new() -> Scripts {
        Scripts {
            state: Script::new(STATE),
            bounded: Script::new(BOUNDED),
            walk: Script::new(WALK),
            newest: Script::new(NEWEST),
            fields: Script::new(FIELDS),
            save: Exceeding::new(SAVE),
            trim: Script::new(TRIM),
            copied: Script::new(COPIED),
            copy: Exceeding::new(COPY),
            set: Script::new(SET),
            write: Script::new(WRITE),
        }
    }
}

/// A call by hash, for a pipeline.
pub fn call(script: &Script, keys: &[&str]) -> Cmd {
    let mut command = ::redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys.len()).arg(keys);
    command
}

/// What brings the scripts to a server that does not have them.
pub fn load(pipeline: &mut ::redis::Pipeline) {
    for code in [STATE, BOUNDED, WALK, NEWEST, FIELDS, COPIED, WRITE] {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(code);
    }
}

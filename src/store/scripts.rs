//! The scripts that Redis runs: each does as one step what would be wrong in two.

/// Sets the cursor if it still is what this program last read or wrote (or already what it is
/// about to write, after an answer that got lost), and with it, as one, the position in the
/// account and the copies of poison. KEYS: cursor, status, stream, dead letters. ARGV: 1 if the
/// cursor is expected to exist, its expected value, its new value, the position, and pairs of
/// ID and reason.
/// Answers 1, or the type and the value that stand in the way.
pub const SAVE: &str = r"
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'none' and type ~= 'string' then return {type} end
local now = redis.call('GET', KEYS[1])
if now == ARGV[3] then return 1 end
if ARGV[1] == '1' and now ~= ARGV[2] or ARGV[1] == '0' and now then return {type, now} end
for i = 5, #ARGV, 2 do
    local entry = redis.call('XRANGE', KEYS[3], ARGV[i], ARGV[i])[1]
    if entry then
        local copy = {}
        for j = 1, #entry[2], 2 do
            local name = entry[2][j]
            if name == '_id' or name == '_reason' then name = '_' .. name end
            copy[j], copy[j + 1] = name, entry[2][j + 1]
        end
        redis.call('XADD', KEYS[4], '*', '_id', ARGV[i], '_reason', ARGV[i + 1], unpack(copy))
    end
end
redis.call('SET', KEYS[1], ARGV[3])
redis.pcall('HSET', KEYS[2], 'position', ARGV[4])
if #ARGV > 4 then redis.pcall('HINCRBY', KEYS[2], 'dead_letters', (#ARGV - 4) / 2) end
return 1";

/// Trims the stream so that a number of sent entries stay, unless somebody has moved the cursor
/// meanwhile: what lies behind it is not sent any more. ARGV: the cursor as it is stored, its
/// ID, the ID behind it, the number. Answers how many were removed.
pub const TRIM: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local keep = tonumber(ARGV[4])
local from = ARGV[3]
if keep > 0 then
    local kept = redis.call('XREVRANGE', KEYS[2], ARGV[2], '-', 'COUNT', keep)
    if #kept < keep then return 0 end
    from = kept[keep][1]
end
return redis.call('XTRIM', KEYS[2], 'MINID', from)";

/// Counts a slice of a range and says where it ends, without sending the entries.
pub const COUNT: &str = r"
local slice = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
if #slice == 0 then return {0, ''} end
return {#slice, slice[#slice][1]}";

/// Sets or deletes a key unless it holds something other than a string: without a gap between
/// looking and writing. ARGV: the value, or nothing. Answers 1 or the type that is in the way.
pub const SET: &str = r"
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'none' and type ~= 'string' then return type end
if ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('DEL', KEYS[1]) end
return 1";

-- Wireshark and tshark dissector of the rdgram wire protocol, version 1 (../protocol.md; sections are cited as "section N").
--
--   tshark -X lua_script:rdgram.lua -r capture.pcapng       or put this file into Wireshark's folder for personal Lua plug-ins
--
-- Datagrams are recognised on any UDP port; where another protocol lays claim to the port, choose rdgram in "Decode As",
-- or set the preference udp.try_heuristic_first. What one UDP packet of a capture holds may be a train of datagrams (section 1):
-- each has an item of its own, found by its length field. One file, since that is how Wireshark takes plug-ins. Written for Wireshark 3.6 and later (Lua 5.2 to 5.4).

local rdgram = Proto("rdgram", "Reliable datagrams with remote direct memory access")

local VERSION = 1
local LLP_LENGTH, SYN_LENGTH, RESET_LENGTH = 40, 64, 20
local ACK_LENGTH, SACK_WORDS_MAX = 12, 16
local TAGGED_LENGTH, UNTAGGED_LENGTH = 14, 18
local ITEMS_MAX = 24
local SEGMENT_MIN = 256
local DATA, ACK, RESET, CLOSE, PROBE, PROBE_ACK, BUNDLE = 1, 2, 3, 4, 5, 6, 7
local SYN, AR, RETX, FULL, ECHO, ACKED = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

local KINDS = {
    [DATA] = "DATA", [ACK] = "ACK", [RESET] = "RESET", [CLOSE] = "CLOSE",
    [PROBE] = "PROBE", [PROBE_ACK] = "PROBE_ACK", [BUNDLE] = "BUNDLE",
}
-- RFC 5040 section 4, RFC 7306 section 4, and from 0xC on section 7.
local OPCODES = {
    [0x0] = "RDMA Write", [0x1] = "RDMA Read Request", [0x2] = "RDMA Read Response", [0x3] = "Send",
    [0x4] = "Send with Invalidate", [0x5] = "Send with Solicited Event",
    [0x6] = "Send with Solicited Event and Invalidate", [0x7] = "Terminate", [0x8] = "Immediate Data",
    [0x9] = "Immediate Data with Solicited Event", [0xA] = "Atomic Request", [0xB] = "Atomic Response",
    [0xC] = "Extended Send", [0xD] = "Control", [0xE] = "Extended Write", [0xF] = "Extended Request",
}
-- The queue of each opcode of the untagged model that is in use.
local QUEUES = {
    [0x1] = 1, [0x3] = 0, [0x7] = 2, [0x8] = 0, [0x9] = 0, [0xA] = 1, [0xB] = 3, [0xC] = 0, [0xD] = 4, [0xF] = 1,
}
local TAGGED = { [0x0] = true, [0x2] = true, [0xE] = true }
local CONTROLS = { "CTS", "RNR", "NOP", "NACK", "DONE", "VOID", "GRANT" }
local NACKS = { "unknown key", "access not permitted", "out of range", "operation not supported" }
local RESETS = { "unknown context", "version not spoken" }
local REQUESTS = { "READ", "ATOMIC" }
local RFC_ATOMICS = { [0] = "FetchAdd", [2] = "CmpSwap" }
local LAYERS = { [0] = "RDMAP", [1] = "DDP", [2] = "LLP" }
local OPERATIONS = {
    [0] = "MIN", "MAX", "SUM", "PROD", "LOR", "LAND", "BOR", "BAND", "LXOR", "BXOR", "ATOMIC_READ", "ATOMIC_WRITE",
    "CSWAP", "CSWAP_NE", "CSWAP_LE", "CSWAP_LT", "CSWAP_GE", "CSWAP_GT", "MSWAP",
}
local DATATYPES = {
    [0] = "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "FLOAT", "DOUBLE", "FLOAT_COMPLEX",
    "DOUBLE_COMPLEX", "LONG_DOUBLE", "LONG_DOUBLE_COMPLEX", "INT128", "UINT128",
}

-- Fields ---------------------------------------------------------------------------------------------------------------

local f = {}

local function add_field(make, name, title, ...)
    local field = make("rdgram." .. name, title, ...)
    f[name] = field
    return field
end
local function u8(name, title, display, names, mask) add_field(ProtoField.uint8, name, title, display or base.DEC, names, mask) end
local function u16(name, title, display, names, mask) add_field(ProtoField.uint16, name, title, display or base.DEC, names, mask) end
local function u32(name, title, display, names) add_field(ProtoField.uint32, name, title, display or base.DEC, names) end
local function u64(name, title, display) add_field(ProtoField.uint64, name, title, display or base.DEC) end
local function bit8(name, title, mask) add_field(ProtoField.bool, name, title, 8, nil, mask) end
local function bit16(name, title, mask) add_field(ProtoField.bool, name, title, 16, nil, mask) end

u8("version", "Version", base.DEC, nil, 0xF0)
u8("kind", "Kind", base.DEC, KINDS, 0x0F)
u8("flags", "Flags", base.HEX)
bit8("flags.syn", "SYN: a SYN extension follows", SYN)
bit8("flags.ar", "AR: acknowledge in the same progress call", AR)
bit8("flags.retx", "RETX: a retransmission", RETX)
bit8("flags.full", "FULL: the integrity field covers the payload too", FULL)
bit8("flags.echo", "ECHO: the echo fields are valid", ECHO)
bit8("flags.acked", "ACKED: acknowledgement, refusal count and credit are valid", ACKED)
u16("length", "Length")
u32("ctx", "Destination context id", base.HEX)
u16("src_ep", "Source endpoint index")
u16("dst_ep", "Destination endpoint index")
u32("psn", "PSN")
u16("path", "Path id")
u16("tx", "Transmission number")
u32("ack", "Cumulative acknowledgement")
u16("echo", "Echoed transmission number")
u16("echo_delay", "Echo delay (us)")
u16("refusals", "Refusal count")
u16("credit", "Credit (packets)")
u32("cookie", "Cookie", base.HEX)
u32("integrity", "Integrity (CRC32C)", base.HEX)
u8("integrity.status", "Integrity status", base.DEC, { [0] = "bad", [1] = "good", [2] = "not checked" })

add_field(ProtoField.none, "syn", "SYN extension")
u16("syn.length", "Length of the extension")
u8("syn.version_min", "Lowest version spoken")
u8("syn.version_max", "Highest version spoken")
u32("syn.ctx", "Sender's context id", base.HEX)
u64("syn.incarnation", "Incarnation", base.HEX)
u32("syn.psn", "Initial PSN")
u32("syn.features", "Features", base.HEX)
add_field(ProtoField.bool, "syn.features.bundle", "BUNDLE is understood", 32, nil, 0x1)
add_field(ProtoField.bool, "syn.features.grant", "GRANT is understood", 32, nil, 0x2)
u16("syn.segment", "Largest datagram accepted")
u16("syn.credit_packets", "Standing credit, packets")
u32("syn.credit_bytes", "Standing credit, bytes")
u32("syn.staging", "Staging limit")
u16("syn.family", "Address family")
u16("syn.port", "Port")
add_field(ProtoField.ipv4, "syn.ipv4", "Address")
add_field(ProtoField.ipv6, "syn.ipv6", "Address")
u32("syn.cookie", "Issued cookie", base.HEX)
u32("syn.scope", "IPv6 scope id")

add_field(ProtoField.none, "sack", "Acknowledgement")
u32("sack.credit_bytes", "Credit in bytes")
u32("sack.ce", "Packets marked Congestion Experienced")
u16("sack.words", "Bitmap words")
u64("sack.bitmap", "Bitmap", base.HEX)
add_field(ProtoField.string, "sack.accepted", "Accepted beyond the cumulative acknowledgement")

add_field(ProtoField.none, "reset", "Reset")
u32("reset.psn", "PSN of the offending packet")
u32("reset.cookie", "Its cookie", base.HEX)
u64("reset.incarnation", "Incarnation of the endpoint that resets", base.HEX)
u32("reset.reason", "Reason", base.DEC, RESETS)

add_field(ProtoField.none, "segment", "DDP segment")
u16("item_length", "Length of the item")
bit16("ddp.tagged", "Tagged (T)", 0x8000)
bit16("ddp.last", "Last (L)", 0x4000)
u16("ddp.version", "DDP version", base.DEC, nil, 0x0300)
u16("rdmap.version", "RDMAP version", base.DEC, nil, 0x00C0)
u16("opcode", "Opcode", base.HEX, OPCODES, 0x000F)
u32("ddp.stag", "STag", base.HEX)
u64("ddp.offset", "Tagged offset", base.HEX)
u32("ddp.invalidate", "Invalidate STag", base.HEX)
u32("ddp.queue", "Queue number")
u32("ddp.msn", "Message sequence number")
u32("ddp.message_offset", "Message offset")

u8("send.flags", "Flags", base.HEX)
bit8("send.flags.tag", "TAG", 0x01)
bit8("send.flags.data", "DATA", 0x02)
bit8("send.flags.rendezvous", "RENDEZVOUS", 0x04)
u8("write.flags", "Flags", base.HEX)
bit8("write.flags.data", "DATA", 0x01)
bit8("write.flags.report", "REPORT", 0x02)
u32("message_id", "Message id")
u64("total", "Total length")
u64("tag", "Tag", base.HEX)
u64("data", "Remote CQ data", base.HEX)
u64("key", "Key of the region", base.HEX)
u64("region_offset", "Offset in the region", base.HEX)
u32("sink_stag", "Sink STag", base.HEX)
u64("sink_offset", "Sink offset", base.HEX)

u8("request.type", "Request", base.DEC, REQUESTS)
u8("read.flags", "Flags", base.HEX)
bit8("read.flags.part", "PART", 0x01)
u64("read.length", "Length")
u8("atomic.operation", "Operation", base.DEC, OPERATIONS)
u8("atomic.datatype", "Datatype", base.DEC, DATATYPES)
u8("atomic.flags", "Flags", base.HEX)
bit8("atomic.flags.fetch", "FETCH", 0x01)
bit8("atomic.flags.compare", "COMPARE", 0x02)
u32("atomic.count", "Elements")

u8("control.type", "Control message", base.DEC, CONTROLS)
u32("control.stag", "STag", base.HEX)
u64("control.length", "Bytes asked for")
u64("control.granted", "Bytes granted")
u16("control.index", "Refusal index")
u16("control.code", "Reason", base.DEC, NACKS)

u32("rdmap.read.size", "RDMA Read message size")
u32("rdmap.read.source_stag", "Source STag", base.HEX)
u64("rdmap.read.source_offset", "Source tagged offset", base.HEX)
add_field(ProtoField.bytes, "rdmap.immediate", "Immediate data")
u32("rdmap.atomic.opcode", "Atomic opcode", base.DEC, RFC_ATOMICS)
u32("rdmap.atomic.request", "Request identifier")
u32("rdmap.atomic.stag", "Remote STag", base.HEX)
u64("rdmap.atomic.offset", "Remote tagged offset", base.HEX)
u64("rdmap.atomic.operand", "Add or swap data", base.HEX)
u64("rdmap.atomic.mask", "Add or swap mask", base.HEX)
u64("rdmap.atomic.compare", "Compare data", base.HEX)
u64("rdmap.atomic.compare_mask", "Compare mask", base.HEX)
u64("rdmap.atomic.value", "Original value", base.HEX)
u8("rdmap.terminate.layer", "Layer", base.DEC, LAYERS, 0xF0)
u8("rdmap.terminate.type", "Error type", base.DEC, nil, 0x0F)
u8("rdmap.terminate.code", "Error code", base.HEX)

add_field(ProtoField.bytes, "payload", "Payload")
u32("payload.length", "Payload length")
u16("train.datagrams", "Datagrams in this train")
u16("bundle.items", "Items in this bundle")

for _, field in pairs(f) do
    table.insert(rdgram.fields, field)
end

local x = {
    malformed = ProtoExpert.new("rdgram.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR),
    integrity = ProtoExpert.new("rdgram.integrity.bad", "Integrity field is wrong", expert.group.CHECKSUM, expert.severity.ERROR),
    version = ProtoExpert.new("rdgram.version.other", "Another version of the protocol", expert.group.PROTOCOL, expert.severity.WARN),
    cut = ProtoExpert.new("rdgram.cut", "The capture does not hold all of it", expert.group.UNDECODED, expert.severity.NOTE),
    again = ProtoExpert.new("rdgram.retransmission", "Retransmission", expert.group.SEQUENCE, expert.severity.NOTE),
    reset = ProtoExpert.new("rdgram.reset.seen", "Reset", expert.group.SEQUENCE, expert.severity.WARN),
    iwarp = ProtoExpert.new("rdgram.iwarp.failed", "Wireshark's own DDP/RDMAP dissector does not read it", expert.group.UNDECODED, expert.severity.NOTE),
    refused = ProtoExpert.new("rdgram.refused", "Refused", expert.group.SEQUENCE, expert.severity.NOTE),
}
for _, info in pairs(x) do
    table.insert(rdgram.experts, info)
end

rdgram.prefs.integrity = Pref.bool("Check the integrity field", true, "Compute the CRC32C of every datagram")
rdgram.prefs.iwarp = Pref.enum("Segments, by opcode, that Wireshark's own DDP/RDMAP dissector shows too", 1,
    "It knows the opcodes of RFC 5040 and RFC 7306; of rdgram's own it can show the DDP header",
    { { 1, "none", 0 }, { 2, "standard", 1 }, { 3, "all", 2 } })

local iwarp = Dissector.get("iwarp_ddp_rdmap")

-- Reading --------------------------------------------------------------------------------------------------------------

-- A place in a captured packet: `at`, up to the end `stop` of what it belongs to. Decoders return what they found, or nil and a fault: a text, or CUT
-- where not the packet is to blame but the capture, which did not keep all of it.
local CUT = {}

local function lacks(tvb, at, stop, length, header)
    if at + length > stop then
        return string.format("%s: %d bytes where %d are needed", header, stop - at, length)
    end
    return at + length > tvb:captured_len() and CUT or nil
end

local function lacks_or_exceeds(tvb, at, stop, length, header)
    local fault = lacks(tvb, at, stop, length, header)
    if not fault and at + length < stop then
        fault = string.format("%s: %d bytes too many", header, stop - at - length)
    end
    return fault
end

local function report(item, fault)
    if fault == CUT then
        item:add_proto_expert_info(x.cut)
    else
        item:add_proto_expert_info(x.malformed, fault)
    end
end

-- A table of { field, offset, length }.
local function add_layout(tree, tvb, at, layout)
    for _, row in ipairs(layout) do
        tree:add(row[1], tvb(at + row[2], row[3]))
    end
end

local function add_flags(tree, field, range, bits)
    local item = tree:add(field, range)
    for _, bit in ipairs(bits) do
        item:add(bit, range)
    end
end

local function has(value, mask)
    return value % (2 * mask) >= mask
end

-- A length that a Lua number may be too small for, beside one that is not.
local function wide(number)
    return UInt64.new(number % 2 ^ 32, math.floor(number / 2 ^ 32))
end

local function hex(number)
    return "0x" .. number:tohex():gsub("^0+(%x)", "%1")
end

-- CRC32C ---------------------------------------------------------------------------------------------------------------

local bits = bit or bit32
local crc_table = {}
for index = 0, bits and 255 or -1 do
    local value = index
    for _ = 1, 8 do
        local low = bits.band(value, 1)
        value = bits.rshift(value, 1)
        if low == 1 then value = bits.bxor(value, 0x82F63B78) end
    end
    crc_table[index] = value
end

local function crc_bytes(crc, bytes)
    local band, bxor, rshift, byte = bits.band, bits.bxor, bits.rshift, string.byte
    for index = 1, #bytes do
        crc = bxor(rshift(crc, 8), crc_table[band(bxor(crc, byte(bytes, index)), 0xFF)])
    end
    return crc
end

-- Of `length` bytes from `at`, the integrity field itself taken as zero.
local function integrity_is_right(tvb, at, length)
    local crc = crc_bytes(0xFFFFFFFF, tvb:raw(at, 36))
    crc = crc_bytes(crc, "\0\0\0\0")
    crc = crc_bytes(crc, tvb:raw(at + LLP_LENGTH, length - LLP_LENGTH))
    return bits.bxor(bits.bxor(crc, 0xFFFFFFFF), tvb(at + 36, 4):uint()) == 0
end

local function add_integrity_status(item, tvb, at, covered)
    local status = 2
    if rdgram.prefs.integrity and bits and covered and at + covered <= tvb:captured_len() then
        status = integrity_is_right(tvb, at, covered) and 1 or 0
        if status == 0 then item:add_proto_expert_info(x.integrity) end
    end
    item:add(f["integrity.status"], status):set_generated()
end

-- What follows a DDP header (section 7). Each decoder gets the place behind it, and returns how long its header is, or nil and a fault, and a summary. ------

local function payload_text(payload, offset, total)
    return string.format("%d bytes at %s of %s", payload, tostring(offset), tostring(total))
end

local SEND_EXTENSION = { { f["message_id"], 4, 4 }, { f["total"], 8, 8 } }

local function send_words(tree, tvb, at, stop, flags)
    local words, text = 0, ""
    for _, word in ipairs({ { 0x01, f["tag"], " tag " }, { 0x02, f["data"], " data " } }) do
        if has(flags, word[1]) then
            local place = at + 16 + 8 * words
            local fault = lacks(tvb, place, stop, 8, "send extension")
            if fault then return nil, fault end
            tree:add(word[2], tvb(place, 8))
            text = text .. word[3] .. hex(tvb(place, 8):uint64())
            words = words + 1
        end
    end
    return words, text
end

-- Section 7: the payload lies inside the message, is there but in a rendezvous start and an empty message, and L marks the message's end.
local function send_fault(flags, offset, last, payload, total)
    if has(flags, 0x04) then
        if payload > 0 then return string.format("send extension: %d bytes of payload in a rendezvous", payload) end
        return not last and "DDP L bit: clear in a rendezvous" or nil
    end
    local stop = wide(offset + payload)
    if total < stop then return "send extension total: the payload ends beyond it" end
    if payload == 0 and total ~= UInt64.new(0, 0) then return "send extension: no payload" end
    if last ~= (stop == total) then return "DDP L bit: not at the end of the message, and nowhere else" end
end

local function extended_send(tree, tvb, at, stop, ddp)
    local fault = lacks(tvb, at, stop, 16, "send extension")
    if fault then return nil, fault end
    local flags = tvb(at, 1):uint()
    add_flags(tree, f["send.flags"], tvb(at, 1),
        { f["send.flags.tag"], f["send.flags.data"], f["send.flags.rendezvous"] })
    add_layout(tree, tvb, at, SEND_EXTENSION)
    if flags > 7 or (ddp.offset ~= 0 and flags ~= 0) then
        return nil, string.format("send extension flags: 0x%02x", flags)
    end
    local words, text = send_words(tree, tvb, at, stop, flags)
    if not words then return nil, text end
    local length = 16 + 8 * words
    local payload, total = stop - at - length, tvb(at + 8, 8):uint64()
    fault = send_fault(flags, ddp.offset, ddp.last, payload, total)
    if fault then return nil, fault end
    text = string.format("msn %d id %d%s ", ddp.msn, tvb(at + 4, 4):uint(), text)
    if has(flags, 0x04) then return length, text .. "rendezvous of " .. tostring(total) end
    return length, text .. payload_text(payload, ddp.offset, total)
end

local WRITE_EXTENSION = { { f["message_id"], 4, 4 }, { f["key"], 8, 8 }, { f["total"], 16, 8 } }

local function write_fault(ddp, key, total, payload)
    local zero = UInt64.new(0, 0)
    if key:lower() ~= ddp.stag then return "write extension key: the STag is not its low half" end
    if wide(payload) > total or (payload == 0 and total ~= zero) then
        return string.format("write extension total: %d bytes of %s", payload, tostring(total))
    end
    if wide(payload) == total and not ddp.last then return "DDP L bit: clear in the only segment of a write" end
end

local function extended_write(tree, tvb, at, stop, ddp)
    local fault = lacks(tvb, at, stop, 24, "write extension")
    if fault then return nil, fault end
    local flags = tvb(at, 1):uint()
    add_flags(tree, f["write.flags"], tvb(at, 1), { f["write.flags.data"], f["write.flags.report"] })
    add_layout(tree, tvb, at, WRITE_EXTENSION)
    local length, text = 24, ""
    if has(flags, 0x01) then
        fault = lacks(tvb, at, stop, 32, "write extension")
        if fault then return nil, fault end
        tree:add(f["data"], tvb(at + 24, 8))
        length, text = 32, " data " .. hex(tvb(at + 24, 8):uint64())
    end
    local key, total, payload = tvb(at + 8, 8):uint64(), tvb(at + 16, 8):uint64(), stop - at - length
    fault = write_fault(ddp, key, total, payload)
    if fault then return nil, fault end
    return length, string.format("id %d key %s%s %s", tvb(at + 4, 4):uint(), hex(key), text,
        payload_text(payload, hex(ddp.offset), total))
end

local READ = {
    { f["message_id"], 4, 4 }, { f["sink_stag"], 8, 4 }, { f["sink_offset"], 16, 8 }, { f["key"], 24, 8 },
    { f["region_offset"], 32, 8 }, { f["read.length"], 40, 8 },
}
local ATOMIC = {
    { f["atomic.operation"], 1, 1 }, { f["atomic.datatype"], 2, 1 }, { f["message_id"], 4, 4 }, { f["sink_stag"], 8, 4 },
    { f["atomic.count"], 12, 4 }, { f["key"], 16, 8 }, { f["region_offset"], 24, 8 },
}

local function extended_request(tree, tvb, at, stop, ddp)
    local fault = lacks(tvb, at, stop, 1, "Extended Request")
    if fault then return nil, fault end
    local kind = tvb(at, 1):uint()
    tree:add(f["request.type"], tvb(at, 1))
    if kind == 1 then
        fault = lacks_or_exceeds(tvb, at, stop, 48, "READ")
        if fault then return nil, fault end
        add_flags(tree, f["read.flags"], tvb(at + 1, 1), { f["read.flags.part"] })
        add_layout(tree, tvb, at, READ)
        ddp.bare = true
        return 48, string.format("READ id %d of %s bytes, key %s", tvb(at + 4, 4):uint(),
            tostring(tvb(at + 40, 8):uint64()), hex(tvb(at + 24, 8):uint64()))
    elseif kind == 2 then
        fault = lacks(tvb, at, stop, 32, "ATOMIC")
        if fault then return nil, fault end
        add_flags(tree, f["atomic.flags"], tvb(at + 3, 1), { f["atomic.flags.fetch"], f["atomic.flags.compare"] })
        add_layout(tree, tvb, at, ATOMIC)
        local operation, datatype = tvb(at + 1, 1):uint(), tvb(at + 2, 1):uint()
        return 32, string.format("ATOMIC %s %s msn %d id %d key %s", OPERATIONS[operation] or operation,
            DATATYPES[datatype] or datatype, ddp.msn, tvb(at + 4, 4):uint(), hex(tvb(at + 16, 8):uint64()))
    end
    return nil, string.format("extended request type: %d is not defined", kind)
end

-- Length and fields of each control message. Offsets count from its type.
local ID = { f["message_id"], 4, 4 }
local CONTROL = {
    { 20, { ID, { f["control.stag"], 8, 4 }, { f["control.length"], 12, 8 } } },
    { 12, { ID, { f["control.index"], 8, 2 } } },
    { 4, {} },
    { 12, { ID, { f["control.index"], 8, 2 }, { f["control.code"], 10, 2 } } },
    { 8, { ID } },
    { 8, { ID } },
    { 28, { ID, { f["control.stag"], 8, 4 }, { f["control.length"], 12, 8 }, { f["control.granted"], 20, 8 } } },
}

local function control(tree, tvb, at, stop)
    local fault = lacks(tvb, at, stop, 1, "control message")
    if fault then return nil, fault end
    local kind = tvb(at, 1):uint()
    local item = tree:add(f["control.type"], tvb(at, 1))
    local layout = CONTROL[kind]
    if not layout then return nil, string.format("control message type: %d is not defined", kind) end
    fault = lacks_or_exceeds(tvb, at, stop, layout[1], CONTROLS[kind])
    if fault then return nil, fault end
    add_layout(tree, tvb, at, layout[2])
    local text = CONTROLS[kind]
    if text ~= "NOP" then text = text .. " id " .. tvb(at + 4, 4):uint() end
    if text:find("^CTS") or text:find("^GRANT") then text = text .. " length " .. tostring(tvb(at + 12, 8):uint64()) end
    if text:find("^GRANT") then text = text .. " granted " .. tostring(tvb(at + 20, 8):uint64()) end
    if text:find("^RNR") then item:add_proto_expert_info(x.refused, "No room for the message: its sender waits for CTS") end
    if text:find("^NACK") then
        local code = tvb(at + 10, 2):uint()
        text = text .. ": " .. (NACKS[code] or code)
        item:add_proto_expert_info(x.refused, "The operation was not carried out: " .. (NACKS[code] or code))
    end
    return layout[1], text
end

-- The messages of RFC 5040 and RFC 7306 that are one segment of fixed length.
local FIXED = {
    [0x1] = { 28, {
        { f["sink_stag"], 0, 4 }, { f["sink_offset"], 4, 8 }, { f["rdmap.read.size"], 12, 4 },
        { f["rdmap.read.source_stag"], 16, 4 }, { f["rdmap.read.source_offset"], 20, 8 },
    } },
    [0x8] = { 8, { { f["rdmap.immediate"], 0, 8 } } },
    [0x9] = { 8, { { f["rdmap.immediate"], 0, 8 } } },
    [0xA] = { 52, {
        { f["rdmap.atomic.request"], 4, 4 }, { f["rdmap.atomic.stag"], 8, 4 }, { f["rdmap.atomic.offset"], 12, 8 },
        { f["rdmap.atomic.operand"], 20, 8 }, { f["rdmap.atomic.mask"], 28, 8 },
        { f["rdmap.atomic.compare"], 36, 8 }, { f["rdmap.atomic.compare_mask"], 44, 8 },
    } },
    [0xB] = { 12, { { f["rdmap.atomic.request"], 0, 4 }, { f["rdmap.atomic.value"], 4, 8 } } },
}

local function fixed(tree, tvb, at, stop, ddp)
    local length, layout = FIXED[ddp.opcode][1], FIXED[ddp.opcode][2]
    local fault = lacks_or_exceeds(tvb, at, stop, length, OPCODES[ddp.opcode])
    if fault then return nil, fault end
    if ddp.opcode == 0xA then
        local operation = tvb(at, 4):uint() % 16
        tree:add(f["rdmap.atomic.opcode"], tvb(at, 4), operation)
        if not RFC_ATOMICS[operation] then
            return nil, string.format("atomic opcode: %d is not defined", operation)
        end
    end
    add_layout(tree, tvb, at, layout)
    return length, "msn " .. ddp.msn
end

local TERMINATE = {
    { f["rdmap.terminate.layer"], 0, 1 }, { f["rdmap.terminate.type"], 0, 1 }, { f["rdmap.terminate.code"], 1, 1 },
}

local function terminate(tree, tvb, at, stop)
    local fault = lacks(tvb, at, stop, 4, "Terminate")
    if fault then return nil, fault end
    add_layout(tree, tvb, at, TERMINATE)
    return 4, string.format("code 0x%02x", tvb(at + 1, 1):uint())
end

local function tagged(_, _, at, stop, ddp)
    return 0, string.format("stag 0x%x %d bytes at %s", ddp.stag, stop - at, hex(ddp.offset))
end

local function send(_, _, at, stop, ddp)
    return 0, string.format("msn %d %d bytes", ddp.msn, stop - at)
end

local DECODERS = {
    [0x0] = tagged, [0x1] = fixed, [0x2] = tagged, [0x3] = send, [0x7] = terminate, [0x8] = fixed, [0x9] = fixed,
    [0xA] = fixed, [0xB] = fixed, [0xC] = extended_send, [0xD] = control, [0xE] = extended_write, [0xF] = extended_request,
}
local PAYLOAD = { [0x0] = true, [0x2] = true, [0x3] = true, [0x7] = true, [0xC] = true, [0xE] = true, [0xF] = true }

-- DDP ------------------------------------------------------------------------------------------------------------------

local CONTROL_WORD = {
    { f["ddp.tagged"], 0, 2 }, { f["ddp.last"], 0, 2 }, { f["ddp.version"], 0, 2 }, { f["rdmap.version"], 0, 2 },
    { f["opcode"], 0, 2 },
}
local TAGGED_HEADER = { { f["ddp.stag"], 2, 4 }, { f["ddp.offset"], 6, 8 } }
local UNTAGGED_HEADER = {
    { f["ddp.invalidate"], 2, 4 }, { f["ddp.queue"], 6, 4 }, { f["ddp.msn"], 10, 4 }, { f["ddp.message_offset"], 14, 4 },
}

local function control_word(tree, tvb, at, stop)
    local fault = lacks(tvb, at, stop, 2, "DDP control word")
    if fault then return nil, fault end
    add_layout(tree, tvb, at, CONTROL_WORD)
    local word = tvb(at, 2):uint()
    local ddp = { opcode = word % 16, tagged = has(word, 0x8000), last = has(word, 0x4000) }
    if tvb(at, 1):bitfield(6, 2) ~= 1 then return nil, "DDP version: not 1" end
    if tvb(at + 1, 1):bitfield(0, 2) ~= 1 then return nil, "RDMAP version: not 1" end
    if not DECODERS[ddp.opcode] then
        return nil, "RDMAP opcode: " .. OPCODES[ddp.opcode] .. " is not used"
    end
    if ddp.tagged ~= (TAGGED[ddp.opcode] or false) then
        return nil, "DDP T bit: not that of " .. OPCODES[ddp.opcode]
    end
    return ddp
end

-- The header behind the control word. Returns its length, or nil and a fault.
local function ddp_header(tree, tvb, at, stop, ddp)
    if ddp.tagged then
        local fault = lacks(tvb, at, stop, TAGGED_LENGTH, "DDP tagged header")
        if fault then return nil, fault end
        add_layout(tree, tvb, at, TAGGED_HEADER)
        ddp.stag, ddp.offset = tvb(at + 2, 4):uint(), tvb(at + 6, 8):uint64()
        return TAGGED_LENGTH
    end
    local fault = lacks(tvb, at, stop, UNTAGGED_LENGTH, "DDP untagged header")
    if fault then return nil, fault end
    add_layout(tree, tvb, at, UNTAGGED_HEADER)
    ddp.msn, ddp.offset = tvb(at + 10, 4):uint(), tvb(at + 14, 4):uint()
    local queue = tvb(at + 6, 4):uint()
    if queue ~= QUEUES[ddp.opcode] then
        return nil, string.format("DDP queue number: %d in %s", queue, OPCODES[ddp.opcode])
    end
    if ddp.opcode ~= 0xC then
        if not ddp.last then return nil, "DDP L bit: clear in " .. OPCODES[ddp.opcode] end
        if ddp.offset ~= 0 then return nil, "DDP message offset: not 0 in " .. OPCODES[ddp.opcode] end
    end
    return UNTAGGED_LENGTH
end

-- The segment once more, by the dissector that comes with Wireshark: what it can read is what the RFCs say.
-- Not a Send: it has the payload dissected by guesses (RPC over RDMA), which take short ones for malformed. Nor a Terminate that announces headers, which
-- may be missing.
local function show_iwarp(item, tvb, pinfo, at, stop, opcode)
    local wanted = rdgram.prefs.iwarp
    if opcode == 0x3 or (opcode == 0x7 and tvb(at + UNTAGGED_LENGTH + 2, 1):bitfield(0, 3) ~= 0) then return end
    if iwarp and stop <= tvb:captured_len() and (wanted == 2 or (wanted == 1 and opcode < 0xC)) then
        -- Should a version of it throw, the rest of the packet is not lost for that.
        if not pcall(iwarp.call, iwarp, tvb(at, stop - at):tvb(), pinfo, item) then item:add_proto_expert_info(x.iwarp) end
    end
end

-- One DDP segment from `at` to `stop`. Returns the length of its headers, or false when what is wrong is told, and a summary.
local function segment(tree, tvb, pinfo, at, stop)
    if at >= tvb:captured_len() then return nil, lacks(tvb, at, stop, 2, "DDP control word") end
    local item = tree:add(f["segment"], tvb(at, math.min(stop, tvb:captured_len()) - at))
    local ddp, fault = control_word(item, tvb, at, stop)
    local length, body, text
    if ddp then length, fault = ddp_header(item, tvb, at, stop, ddp) end
    if length then body, text = DECODERS[ddp.opcode](item, tvb, at + length, stop, ddp) end
    if not body then
        fault = fault or text
        report(item, fault)
        item:append_text(fault == CUT and ": cut" or ": malformed")
        return false, "malformed segment"
    end
    local start = at + length + body
    local payload = stop - start
    if ddp.tagged and UInt64.max() - ddp.offset < wide(payload) then
        report(item, "DDP tagged offset: it wraps")
        return false, "malformed segment"
    end
    text = OPCODES[ddp.opcode] .. " " .. text .. (ddp.last and ddp.opcode < 0xD and " last" or "")
    item:append_text(": " .. text)
    if PAYLOAD[ddp.opcode] and not ddp.bare then
        local seen = math.min(stop, tvb:captured_len()) - start
        if seen > 0 then item:add(f["payload"], tvb(start, seen)) end
        item:add(f["payload.length"], payload):set_generated()
        if seen < payload then item:add_proto_expert_info(x.cut) end
    end
    show_iwarp(item, tvb, pinfo, at, stop, ddp.opcode)
    return length + body, text
end

-- Bodies (sections 3, 4 and 8). Each returns how many bytes of it a headers-only integrity field covers and a summary, or nil and a fault, or false when
-- the fault is told already. -------------------------------

local function data_body(tree, tvb, pinfo, at, stop)
    local length, text = segment(tree, tvb, pinfo, at, stop)
    return length, length ~= nil and " | " .. text or text
end

-- Every item has to be inside of the body before any is believed.
local function bundle_items(tvb, at, stop)
    local items = {}
    while at < stop or #items == 0 do
        local fault = lacks(tvb, at, stop, 2, "BUNDLE item")
        if fault then return nil, fault end
        local length = tvb(at, 2):uint()
        if length == 0 or at + 2 + length > stop then
            return nil, string.format("BUNDLE item: %d bytes where %d are left", length, stop - at - 2)
        end
        items[#items + 1] = { at, length }
        at = at + 2 + length
    end
    if #items > ITEMS_MAX then return nil, string.format("BUNDLE body: %d items", #items) end
    return items
end

local function bundle_body(tree, tvb, pinfo, at, stop, flags)
    if not has(flags, FULL) then return nil, "LLP flags: BUNDLE without FULL" end
    local items, fault = bundle_items(tvb, at, stop)
    if not items then return nil, fault end
    tree:add(f["bundle.items"], #items):set_generated()
    local text
    for _, item in ipairs(items) do
        tree:add(f["item_length"], tvb(item[1], 2))
        local _, summary = segment(tree, tvb, pinfo, item[1] + 2, item[1] + 2 + item[2])
        text = text or summary
    end
    return stop - at, string.format(" | %d items, first %s", #items, text)
end

-- The runs of set bits, counted from the cumulative acknowledgement as the bitmap is.
local function accepted(tvb, at, words)
    local runs, first = {}, nil
    local function close(last)
        if first then runs[#runs + 1] = first == last and "+" .. first or "+" .. first .. ".." .. last end
        first = nil
    end
    for word = 0, words - 1 do
        for bit = 0, 63 do
            local number = 64 * word + bit + 1
            -- Bit 0 is the least significant of the word, and bitfield() counts from the most significant.
            if tvb(at + 8 * word + 7 - math.floor(bit / 8), 1):bitfield(7 - bit % 8, 1) == 1 then
                first = first or number
            else
                close(number - 1)
            end
        end
    end
    close(64 * words)
    return #runs > 0 and table.concat(runs, " ") or "none"
end

local ACK_BODY = { { f["sack.credit_bytes"], 0, 4 }, { f["sack.ce"], 4, 4 }, { f["sack.words"], 8, 2 } }

local function ack_body(tree, tvb, _, at, stop, flags)
    if not has(flags, ACKED) then return nil, "LLP flags: ACK without ACKED" end
    local fault = lacks(tvb, at, stop, ACK_LENGTH, "ACK body")
    if fault then return nil, fault end
    local item = tree:add(f["sack"], tvb(at, math.min(stop, tvb:captured_len()) - at))
    add_layout(item, tvb, at, ACK_BODY)
    local words = tvb(at + 8, 2):uint()
    if words > SACK_WORDS_MAX then return nil, string.format("ACK bitmap words: %d exceed the window", words) end
    fault = lacks_or_exceeds(tvb, at, stop, ACK_LENGTH + 8 * words, "ACK body")
    if fault then return nil, fault end
    for word = 0, words - 1 do
        item:add(f["sack.bitmap"], tvb(at + ACK_LENGTH + 8 * word, 8))
    end
    if words == SACK_WORDS_MAX and tvb(at + ACK_LENGTH + 120, 1):bitfield(0, 1) == 1 then
        return nil, "ACK bitmap: a bit beyond the window"
    end
    local text = accepted(tvb, at + ACK_LENGTH, words)
    item:add(f["sack.accepted"], text):set_generated()
    return stop - at, string.format(" | credit %d bytes, sack %s", tvb(at, 4):uint(), text)
end

local RESET_BODY = {
    { f["reset.psn"], 0, 4 }, { f["reset.cookie"], 4, 4 }, { f["reset.incarnation"], 8, 8 }, { f["reset.reason"], 16, 4 },
}

local function reset_body(tree, tvb, _, at, stop)
    local fault = lacks_or_exceeds(tvb, at, stop, RESET_LENGTH, "RESET body")
    if fault then return nil, fault end
    local item = tree:add(f["reset"], tvb(at, RESET_LENGTH))
    add_layout(item, tvb, at, RESET_BODY)
    local reason = tvb(at + 16, 4):uint()
    if not RESETS[reason] then return nil, string.format("RESET reason: %d is not defined", reason) end
    item:add_proto_expert_info(x.reset, "Reset: " .. RESETS[reason])
    return RESET_LENGTH, " | " .. RESETS[reason] .. " of psn " .. tvb(at, 4):uint()
end

local function empty_body(_, _, _, at, stop)
    if at < stop then return nil, string.format("a body of %d bytes where there is none", stop - at) end
    return 0, ""
end

-- Padding is no header.
local function probe_body(_, _, _, at, stop)
    return 0, at < stop and string.format(" | %d bytes of padding", stop - at) or ""
end

local BODIES = {
    [DATA] = data_body, [ACK] = ack_body, [RESET] = reset_body, [CLOSE] = empty_body, [PROBE] = probe_body,
    [PROBE_ACK] = empty_body, [BUNDLE] = bundle_body,
}

local SYN_FIELDS = {
    { f["syn.length"], 0, 2 }, { f["syn.version_min"], 2, 1 }, { f["syn.version_max"], 3, 1 }, { f["syn.ctx"], 4, 4 },
    { f["syn.incarnation"], 8, 8 }, { f["syn.psn"], 16, 4 }, { f["syn.segment"], 24, 2 }, { f["syn.credit_packets"], 26, 2 },
    { f["syn.credit_bytes"], 28, 4 }, { f["syn.staging"], 32, 4 }, { f["syn.family"], 36, 2 }, { f["syn.port"], 38, 2 },
    { f["syn.cookie"], 56, 4 }, { f["syn.scope"], 60, 4 },
}

-- Section 3. What a later version appends is skipped.
local function syn_extension(tree, tvb, at, stop)
    local fault = lacks(tvb, at, stop, SYN_LENGTH, "SYN extension")
    if fault then return nil, fault end
    local length = tvb(at, 2):uint()
    local item = tree:add(f["syn"], tvb(at, SYN_LENGTH))
    add_layout(item, tvb, at, SYN_FIELDS)
    add_flags(item, f["syn.features"], tvb(at + 20, 4), { f["syn.features.bundle"], f["syn.features.grant"] })
    local family = tvb(at + 36, 2):uint()
    if family == 4 then item:add(f["syn.ipv4"], tvb(at + 40, 4)) end
    if family == 6 then item:add(f["syn.ipv6"], tvb(at + 40, 16)) end
    if length < SYN_LENGTH or at + length > stop then return nil, string.format("SYN length: %d does not fit", length) end
    if family ~= 4 and family ~= 6 then return nil, string.format("SYN address family: %d", family) end
    if tvb(at + 2, 1):uint() > VERSION or tvb(at + 3, 1):uint() < VERSION then
        return nil, "SYN versions: they do not hold the packet's own"
    end
    if tvb(at + 4, 4):uint() == 0 then return nil, "SYN context id: 0" end
    if tvb(at + 24, 2):uint() < SEGMENT_MIN then return nil, "SYN largest datagram: it is too small" end
    if tvb(at + 56, 4):uint() == 0 then return nil, "SYN issued cookie: 0" end
    return length
end

-- The datagram (section 2) ---------------------------------------------------------------------------------------------

local HEADER = {
    { f["length"], 2, 2 }, { f["ctx"], 4, 4 }, { f["src_ep"], 8, 2 }, { f["dst_ep"], 10, 2 }, { f["psn"], 12, 4 },
    { f["path"], 16, 2 }, { f["tx"], 18, 2 }, { f["ack"], 20, 4 }, { f["echo"], 24, 2 }, { f["echo_delay"], 26, 2 },
    { f["refusals"], 28, 2 }, { f["credit"], 30, 2 }, { f["cookie"], 32, 4 },
}
local FLAG_FIELDS = {
    f["flags.syn"], f["flags.ar"], f["flags.retx"], f["flags.full"], f["flags.echo"], f["flags.acked"],
}

local function header_summary(tvb, at, llp)
    local text = string.format("%s psn %d", KINDS[llp.kind], tvb(at + 12, 4):uint())
    if has(llp.flags, ACKED) then text = text .. " ack " .. tvb(at + 20, 4):uint() end
    text = text .. " len " .. llp.length
    for _, flag in ipairs({ { SYN, " SYN" }, { AR, " AR" }, { RETX, " RETX" } }) do
        if has(llp.flags, flag[1]) then text = text .. flag[2] end
    end
    return text
end

local function header_fault(tvb, at, llp)
    if not KINDS[llp.kind] then return string.format("LLP kind: %d is not defined", llp.kind) end
    if tvb(at + 8, 4):uint() ~= 0 then return "LLP endpoint index: not 0" end
    if tvb(at + 4, 4):uint() == 0 and not has(llp.flags, SYN) and llp.kind ~= RESET then
        return "LLP destination context id: 0 without SYN"
    end
end

-- What follows the header. Returns how many bytes a headers-only integrity field covers, or nil and a fault, and a summary.
local function contents(item, tvb, pinfo, at, stop, llp)
    local place = at + LLP_LENGTH
    if has(llp.flags, SYN) then
        local length, fault = syn_extension(item, tvb, place, stop)
        if not length then return nil, fault end
        place = place + length
    end
    local covered, text = BODIES[llp.kind](item, tvb, pinfo, place, stop, llp.flags)
    return covered and place - at + covered, text
end

-- One datagram from `at` to `stop`. Returns a summary.
local function datagram(tree, tvb, pinfo, at, stop)
    local item = tree:add(rdgram, tvb(at, math.min(stop, tvb:captured_len()) - at))
    local fault = lacks(tvb, at, stop, LLP_LENGTH, "LLP header")
    if fault then
        report(item, fault)
        return "malformed"
    end
    local first = tvb(at, 1)
    local llp = { kind = first:uint() % 16, flags = tvb(at + 1, 1):uint(), length = tvb(at + 2, 2):uint() }
    item:add(f["version"], first)
    item:add(f["kind"], first)
    add_flags(item, f["flags"], tvb(at + 1, 1), FLAG_FIELDS)
    add_layout(item, tvb, at, HEADER)
    local integrity = item:add(f["integrity"], tvb(at + 36, 4))
    if first:bitfield(0, 4) ~= VERSION and llp.kind ~= RESET then
        local text = string.format("version %d", first:bitfield(0, 4))
        -- All of a train are of one sender: behind a datagram of ours it is the length that is wrong.
        if at == 0 then item:add_proto_expert_info(x.version) else report(item, "LLP " .. text .. " inside a train") end
        return text
    end
    local covered, text
    fault = header_fault(tvb, at, llp)
    if not fault and llp.length ~= stop - at then
        fault = string.format("LLP length: %d stated, %d received", llp.length, stop - at)
    end
    if not fault then
        covered, text = contents(item, tvb, pinfo, at, stop, llp)
        if covered == nil then fault = text end
    end
    add_integrity_status(integrity, tvb, at, has(llp.flags, FULL) and stop - at or covered)
    if has(llp.flags, RETX) then item:add_proto_expert_info(x.again) end
    if fault then
        report(item, fault)
        return (KINDS[llp.kind] or "kind " .. llp.kind) .. (fault == CUT and " (cut)" or " malformed")
    end
    text = header_summary(tvb, at, llp) .. (text or "")
    item:append_text(", " .. text)
    return text
end

-- Trains ---------------------------------------------------------------------------------------------------------------

-- Could a datagram of this protocol begin here? Strict enough that other traffic is left alone: returns its length.
local function plausible(tvb, at, stop)
    if at + LLP_LENGTH > math.min(stop, tvb:captured_len()) then return nil end
    local kind, flags, length = tvb(at, 1):uint() % 16, tvb(at + 1, 1):uint(), tvb(at + 2, 2):uint()
    local least = LLP_LENGTH + (has(flags, SYN) and SYN_LENGTH or 0)
    local version = tvb(at, 1):bitfield(0, 4)
    if version ~= VERSION and not (kind == RESET and length == LLP_LENGTH + RESET_LENGTH) then return nil end
    if flags > 0x3F or length < least or at + length > stop or header_fault(tvb, at, { kind = kind, flags = flags }) then
        return nil
    end
    if (kind == CLOSE or kind == PROBE_ACK) and length ~= least and not has(flags, SYN) then return nil end
    if (kind == ACK and not has(flags, ACKED)) or (kind == BUNDLE and not has(flags, FULL)) then return nil end
    return length
end

-- Where each datagram of a packet ends. What cannot be one is left to the last.
local function train(tvb)
    local stop, at, ends = tvb:reported_len(), 0, {}
    while at < stop and at < tvb:captured_len() do
        local length = plausible(tvb, at, stop)
        at = length and at + length or stop
        ends[#ends + 1] = at
    end
    return ends
end

function rdgram.dissector(tvb, pinfo, tree)
    local ends = train(tvb)
    local at, summary = 0, nil
    for _, stop in ipairs(ends) do
        local text = datagram(tree, tvb, pinfo, at, stop)
        summary = summary or text
        at = stop
    end
    if #ends > 1 then
        tree:add(f["train.datagrams"], #ends):set_generated()
        summary = string.format("[train of %d, %d bytes] %s", #ends, tvb:reported_len(), summary)
    end
    -- Wireshark's own dissector has written into the columns.
    pinfo.cols.protocol = "rdgram"
    pinfo.cols.info = summary or "empty"
    return tvb:captured_len()
end

local function recognise(tvb, pinfo, tree)
    local stop, at = tvb:reported_len(), 0
    repeat
        local length = plausible(tvb, at, stop)
        -- A capture that keeps only the beginning of packets shows the first headers of a train.
        local cut = tvb:captured_len() < stop and at + LLP_LENGTH > tvb:captured_len()
        if not length and not (at > 0 and cut) then return false end
        at = length and at + length or stop
    until at >= stop
    -- From here on damaged packets between the two are shown as such.
    pinfo.conversation = rdgram
    rdgram.dissector(tvb, pinfo, tree)
    return true
end

rdgram:register_heuristic("udp", recognise)
DissectorTable.get("udp.port"):add_for_decode_as(rdgram)

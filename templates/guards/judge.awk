# Reads the table of what is asked, the metrics of the run before, and the answers as the questions' script prints them.
# Writes metrics to `out` (none where it is empty), and a line for each question that was lost. What was not asked has no
# success and no failure. Exit: 0 everything was answered, 1 something was lost, 2 nothing could be asked.
function say(level, text) { print (journal ? "<" level ">" : "") "dnsmend: " text }
function digit(text, place) { return index("0123456789abcdef", substr(text, place, 1)) - 1 }
# Why the answer is none, "" for one that is. RFC 1035, section 4.1: id, flags with the RCODE at their end, four counts.
function wrong(row, try,    hex, question) {
    hex = data[row, try]
    if (try_code[row, try] != "") rcode = try_code[row, try]
    else {
        question = asked[row]
        if (length(hex) < 24 || digit(hex, 5) < 8) return "no DNS answer"
        if (substr(hex, 25, length(question) - 20) != substr(question, 21)) return "the answer to another question"
        rcode = codes[digit(hex, 8)]
    }
    if (takes[row] == "any" || rcode == "NOERROR" || rcode == "NXDOMAIN") return ""
    return rcode == "" ? "an unknown RCODE" : rcode
}
function label(row) { return "{stage=\"" stage[row] "\",target=\"" target[row] "\",protocol=\"" protocol[row] "\"}" }
function head(name, type, help) { text = text "# HELP " name " " help "\n# TYPE " name " " type "\n" }
function sample(name, row, value) { text = text name label(row) " " value "\n" }
BEGIN {
    split("FORMERR SERVFAIL NXDOMAIN NOTIMP REFUSED", codes, " ")
    codes[0] = "NOERROR"
    success = "dnsmend_guard_success"; duration = "dnsmend_guard_duration_seconds"
    queries = "dnsmend_guard_queries_total"; losses = "dnsmend_guard_lost_total"
}
FILENAME == table {
    row = $1 SUBSEP $2
    rows[++count] = row
    stage[row] = $3; target[row] = $4; protocol[row] = $5; tries[row] = $6; takes[row] = $7; asked[row] = $8
    about[row] = $9 " " $10
    next
}
previous != "" && FILENAME == previous { if (!/^#/ && NF == 2) before[$1] = $2; next }
/^@part / { part = $2; asked_from[part] = 1; next }
/^@dns try / {
    state[part, $3, $4] = $6
    micros[part, $3, $4] = $5 < 0 ? 0 : $5
    words[part, $3, $4] = substr($0, index($0, " " $6) + length($6) + 2)
    next
}
/^@dns data / { data[part, $3, $4] = data[part, $3, $4] $5; next }
/^@dns dig / {
    if (match($0, /status: [A-Z]+/)) { try_code[part, $3, $4] = substr($0, RSTART + 8, RLENGTH - 8); state[part, $3, $4] = "answer" }
    else if (match($0, /Query time: [0-9]+ [mu]sec/)) {
        split(substr($0, RSTART, RLENGTH), time, " ")
        micros[part, $3, $4] = time[3] * (time[4] == "msec" ? 1000 : 1)
    } else if (!((part, $3, $4) in state)) state[part, $3, $4] = "timeout"
}
/^@dns stderr / { complaint = substr($0, index($0, $4)); next }
/^@dns carrier .* none$/ { complaint = "neither python3 nor bash nor dig is here"; next }
END {
    for (i = 1; i <= count; i++) {
        row = rows[i]
        split("", reasons)
        told[row] = lost[row] = slowest[row] = 0
        for (try = 0; try < tries[row]; try++) {
            if (!((row, try) in state)) continue
            told[row]++
            why = state[row, try] == "answer" ? wrong(row, try) : state[row, try] " " words[row, try]
            if (why == "") {
                if (micros[row, try] > slowest[row]) slowest[row] = micros[row, try]
                continue
            }
            lost[row]++
            sub(/ +$/, "", why)
            reasons[why]++
        }
        if (told[row] && told[row] < tries[row]) {
            reasons["not sent"] = tries[row] - told[row]
            lost[row] += tries[row] - told[row]
            told[row] = tries[row]
        }
        all_told += told[row]
        all_lost += lost[row]
        from = substr(row, 1, index(row, SUBSEP) - 1)
        what = stage[row] " " target[row] " over " protocol[row] ", from " (from == "host" ? "the " where : "a DNS pod") ", " about[row]
        if (lost[row]) {
            list = ""
            for (why in reasons) list = list (list == "" ? "" : ", ") why " (" reasons[why] ")"
            say(3, what ": " lost[row] " of " told[row] " lost: " list)
        } else if (told[row] && before[success label(row)] == "0") say(5, what ": answered again")
        else if (!told[row] && (from in asked_from)) unasked[++silent] = what ": not asked: " complaint
    }
    for (i = 1; all_told && i <= silent; i++) say(3, unasked[i])
    if (!all_told) say(3, "nothing could be asked: " (complaint == "" ? "no reason was given" : complaint))
    if (out != "") {
        head(success, "gauge", "1 if every question of the last run was answered.")
        for (i = 1; i <= count; i++) if (told[rows[i]]) sample(success, rows[i], lost[rows[i]] ? 0 : 1)
        head(duration, "gauge", "The slowest answer of the last run.")
        for (i = 1; i <= count; i++) if (told[rows[i]] > lost[rows[i]]) sample(duration, rows[i], sprintf("%.6f", slowest[rows[i]] / 1000000))
        head(queries, "counter", "Questions asked.")
        for (i = 1; i <= count; i++) sample(queries, rows[i], sprintf("%.0f", before[queries label(rows[i])] + told[rows[i]]))
        head(losses, "counter", "Questions that were not answered.")
        for (i = 1; i <= count; i++) sample(losses, rows[i], sprintf("%.0f", before[losses label(rows[i])] + lost[rows[i]]))
        head("dnsmend_guard_last_run_timestamp_seconds", "gauge", "When the guard last came to an end.")
        ran = "dnsmend_guard_last_run_timestamp_seconds{stage=\"probe\"}"
        text = text ran " " sprintf("%.0f", all_told ? now : before[ran]) "\n"
        printf "%s", text > out
        if (close(out)) exit 2
    }
    exit !all_told ? 2 : all_lost ? 1 : 0
}

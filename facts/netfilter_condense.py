"""The node's side of reading rules: an awk program that condenses `iptables-save -c` in one pass.

A node in iptables mode has 30,000 rules, five megabytes. What leaves it are counts, the owned chains that have a name
of their own, the rules about DNS verbatim with all that they lead to, the jumps into owned chains, the rules that a
forwarded packet meets, what stands there twice, and a digest of everybody else's rules in their order. POSIX awk: mawk,
gawk and busybox run it.
"""

from __future__ import annotations

from facts.netfilter_chains import BARE, FOREIGN, FOREIGN_RULES, HASHED, OWN_COMMENT, OWNED

#: Lines of one kind (DNS rules, jumps, duplicates ...) in one table; more are counted, and the cut is told.
MOST = 300
#: Chain names for each foreign owner in one table.
MOST_NAMES = 20
#: kube-proxy's chains that FORWARD leads to and that let nothing pass: they reject services without endpoints.
REJECTING = "^KUBE-(SERVICES|EXTERNAL-SERVICES|NODEPORTS|PROXY-FIREWALL)$"


def _chain(patterns: tuple[tuple[str, str], ...], text: str, or_else: str) -> str:
    """An awk expression: the owner whose pattern the text matches."""
    tests = "".join(f'{text} ~ /{pattern}/ ? "{owner}" : ' for owner, pattern in patterns)
    return f'({tests}"{or_else}")'


#: Reads one save with a last line "@code N" (the exit code of the save), writes lines that start with a word each.
AWK = rf"""
function owner(chain) {{
    if (!(chain in whose)) {{
        hashed[chain] = chain ~ /{HASHED}/
        whose[chain] = (hashed[chain] || chain ~ /{OWNED}/) ? "kube" : {_chain(FOREIGN, "chain", "admin")}
    }}
    return whose[chain]
}}
# A comment may hold anything, a jump as well.
function target(rule) {{
    if (index(rule, "\"")) gsub(/"([^"\\]|\\.)*"/, "", rule)
    return match(rule, / -[jg] [^ ]+/) ? substr(rule, RSTART + 4, RLENGTH - 4) : ""
}}
function show(word, line) {{
    if (++shown[word] <= {MOST}) print word, line
}}
function about_dns(line, rule,    to) {{
    if (line in told) return
    told[line] = 1
    show("dns", line)
    to = target(rule)
    owner(to)
    if (hashed[to]) queue[++queued] = to
}}
function finish(    i, n, line, lines, met, meets, met_chain, to) {{
    if (table == "filter") {{
        meets = 2; met[1] = "FORWARD"; met[2] = "KUBE-FIREWALL"
        met_chain["FORWARD"] = met_chain["KUBE-FIREWALL"] = 1
        for (i = 1; i <= meets; i++) {{
            n = split(filters[met[i]], lines, "\n")
            if (kept[met[i]] > {MOST}) shown["passage"] += kept[met[i]] - {MOST}
            for (line = 1; line < n; line++) {{
                show("passage", lines[line])
                to = target(substr(lines[line], index(lines[line], "]") + 2))
                if (to in filters && to !~ /{REJECTING}/ && !(to in met_chain)) {{
                    met_chain[to] = 1; met[++meets] = to
                }}
            }}
        }}
    }}
    for (i = 1; i <= queued; i++) {{
        n = split(body[queue[i]], lines, "\n")
        for (line = 1; line < n; line++) about_dns(lines[line], substr(lines[line], index(lines[line], "]") + 2))
    }}
    for (i = 1; i <= twice; i++) show("duplicate", seen[again[i]] " " again[i])
    for (i in count) print "count", i, count[i]
    for (i in chains) print "chains", i, chains[i]
    for (i in kinds) print "hashed", i, kinds[i]
    for (i in shown) if (shown[i] > {MOST}) print "cut", i, shown[i]
    if (digested) {{ printf "digest "; fflush(); close(digest); print ""; digested = 0 }}
    split("", body); split("", seen); split("", again); split("", queue); split("", told)
    split("", count); split("", chains); split("", kinds); split("", shown); split("", builtin); split("", filters)
    split("", kept)
    queued = twice = 0
}}
BEGIN {{ digest = "sha256sum" }}
/^\[/ {{
    rule = substr($0, index($0, "]") + 2)
    chain = $3
    if (++seen[rule] == 2) again[++twice] = rule
    if (table == "filter" && ++kept[chain] <= {MOST}) filters[chain] = filters[chain] $0 "\n"
    if (owner(chain) == "kube") {{
        count["kube"]++
        if (hashed[chain]) body[chain] = body[chain] $0 "\n"
    }} else {{
        to = ((chain in builtin) || index(rule, "KUBE-")) ? target(rule) : ""
        if (to != "" && owner(to) == "kube") {{
            if ((chain in builtin) && (rule ~ /{OWN_COMMENT}/ || rule == "-A " chain " -j {BARE}")) {{
                count["kube"]++
                show("link", $0)
                next
            }}
            show("foreign-jump", $0)
        }}
        who = whose[chain]
        if (chain in builtin) {{
            who = owner(to)
            if (who == "admin" || who == "kube") who = {_chain(FOREIGN_RULES, "rule", "admin")}
        }}
        count[who]++
        print rule | digest; digested = 1
    }}
    if ((index(rule, "dport") && rule ~ / --dports? ([0-9:]+,)*53([ ,]|$)/) || index(rule, "kube-dns")) {{
        about_dns($0, rule)
    }}
    next
}}
/^:/ {{
    chain = substr($1, 2)
    if ($2 != "-") {{
        builtin[chain] = 1
        print "policy", chain, $2
        print "policy", chain, $2 | digest; digested = 1
    }} else if (owner(chain) != "kube") {{
        print "chain", chain | digest; digested = 1
        if (++chains[whose[chain]] <= {MOST_NAMES}) print "chain", whose[chain], chain
    }} else if (hashed[chain]) {{
        split(chain, part, "-")
        kinds[part[2]]++
    }} else print "owned", chain
    next
}}
/^\*/ {{ table = substr($1, 2); print "table", table; next }}
/^COMMIT/ {{ finish(); print "end"; next }}
/^# Table .* incompatible/ {{ gsub(/[^A-Za-z0-9_-]/, "", $3); print "incompatible", $3; next }}
/^@code / {{ print "code", $2 }}
"""

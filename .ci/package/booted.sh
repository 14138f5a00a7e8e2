#!/bin/bash
# Run by systemd in the booted tree: what the installed units do. Prints "ok" and "FAIL" lines, then ends the machine.
exec >/result 2>&1
trap 'systemctl --no-block poweroff 2>/dev/null' EXIT

report() { # NAME EXPECTED SEEN
    if [ "$2" = "$3" ]; then echo "ok    $1"; else echo "FAIL  $1: expected <$2>, got <$3>"; fi
}
property() { systemctl show --property "$2" --value "$1"; }
ask() { postseal query --server 127.0.0.1 "$1" 2>&1; }
within() { # SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
# One question for localhost A; the first bytes of the answer: id, flags, counts.
dns() { # udp|tcp ADDRESS
    local query='\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01' skip=0
    [ "$1" = udp ] || { query="\\x00\\x1b$query" skip=2; }
    exec 3<>"/dev/$1/$2/53" || return
    printf "$query" >&3
    timeout 5 head -c $((skip + 8)) <&3 | od -An -tx1 -j $skip | tr -d ' \n'
    exec 3>&-
}

within 30 systemctl is-active --quiet postseal.service
report "the service runs" active "$(systemctl is-active postseal.service)"
# systemd before 253 has no other.
report "it is of type notify or notify-reload" "$(systemctl --version | awk 'NR == 1 { print $2 < 253 ? "notify" : "notify-reload" }')" \
    "$(property postseal Type)"
report "its socketmap socket is systemd's" active "$(systemctl is-active postseal-socketmap.socket)"
report "it answers Postfix" NOTFOUND "$(ask '[192.0.2.1]')"
report "the DNS socket waits to be enabled" "disabled inactive" \
    "$(systemctl is-enabled postseal-dns.socket) $(systemctl is-active postseal-dns.socket)"
pid=$(property postseal MainPID)
report "it is not root, and without a capability" "yes 0000000000000000" \
    "$([ "$(awk '/^Uid/ { print $2 }' "/proc/$pid/status")" -gt 60000 ] && echo yes) $(awk '/^CapEff/ { print $2 }' "/proc/$pid/status")"
report "root's commands reach it" 1 "$(postseal status 2>&1 | grep -c 'not ready: ')"

printf '[policy.overrides]\n"partner.example" = "encrypt"\n' >/etc/postseal/postseal.toml
systemctl reload postseal
report "a reload works" 0 $?
answered() { [ "$(ask partner.example)" = "OK encrypt" ]; }
# systemd before 253 does not wait for its end.
[ "$(property postseal Type)" = notify-reload ] || within 10 answered
report "a reload ends when it is done" "OK encrypt" "$(ask partner.example)"
report "a reload is no restart" "$pid" "$(property postseal MainPID)"

failed=0
systemctl restart postseal &
# Twice, as Postfix asks: a connection that was taken and not yet read ends with the old process.
while [ -n "$(jobs -r)" ]; do answered || answered || failed=$((failed + 1)); done
report "no lookup fails while it restarts" "0 other" "$failed $([ "$pid" = "$(property postseal MainPID)" ] || echo other)"

pid=$(property postseal MainPID)
kill -KILL "$pid"
restarted() { [ "$(systemctl is-active postseal)" = active ] && [ "$(property postseal MainPID)" != "$pid" ]; }
within 20 restarted
report "killed, it is started again, and waited for" "OK encrypt" "$(ask partner.example)"
signs() { [ "$(property postseal WatchdogTimestampMonotonic)" -gt "$1" ]; }
report "the watchdog hears from it" yes "$(within 40 signs "$(property postseal WatchdogTimestampMonotonic)" && echo yes)"

printf '[sockmap]\n' >/etc/postseal/postseal.toml
systemctl restart postseal
# As Postfix goes on asking: more often than systemd lets a unit be started, or a socket be triggered, by default.
for _ in $(seq 40); do timeout 0.2 postseal query --server 127.0.0.1 partner.example >/dev/null 2>&1; done
report "a bad configuration leaves the socket open" active "$(systemctl is-active postseal-socketmap.socket)"
printf '[policy.overrides]\n"partner.example" = "encrypt"\n' >/etc/postseal/postseal.toml
report "repaired, it answers again without further help" yes "$(within 20 answered && echo yes)"
report "the journal has priorities, and the time once" "" \
    "$(journalctl --unit postseal --identifier postseal --output cat | grep -E '^(<[0-9]>)?[0-9]{4}-|^<' | head -3)"
report "warnings and errors can be asked for" yes \
    "$(journalctl --unit postseal --identifier postseal --priority warning --output cat | grep -q . && echo yes)"

handed=0 running=$(property postseal MainPID)
{ systemctl enable --quiet --now postseal-dns.socket; echo $? >/enabled; } &
while [ -n "$(jobs -r)" ]; do answered || answered || handed=$((handed + 1)); done
report "the DNS socket can be enabled beside the running service" "0 active" \
    "$(cat /enabled) $(systemctl is-active postseal-dns.socket)"
report "the service gets it by a restart, and no lookup fails" "0 active other" \
    "$handed $(within 20 systemctl is-active --quiet postseal && systemctl is-active postseal) $(
        [ "$running" = "$(property postseal MainPID)" ] || echo other
    )"
for address in 127.0.0.1 ::1; do
    for transport in udp tcp; do
        report "DNS on port 53 by systemd's socket, $transport, $address" 1234818000010001 "$(dns $transport $address)"
    done
done
report "and lookups on theirs" "OK encrypt" "$(ask partner.example)"
running=$(property postseal MainPID)
systemctl start postseal-dns.socket postseal-socketmap.socket sockets.target
report "a second start of the sockets changes nothing" "$running active" \
    "$(property postseal MainPID) $(systemctl is-active postseal)"
systemctl disable --quiet --now postseal-socketmap.socket && systemctl enable --quiet --now postseal-socketmap.socket
report "the socketmap socket can be started beside the service, too" "active OK encrypt" \
    "$(systemctl is-active postseal-socketmap.socket) $(ask partner.example)"
systemctl stop postseal-socketmap.socket postseal-dns.socket postseal.service
report "stopped, it ended by itself" "success 0" "$(property postseal Result) $(property postseal ExecMainStatus)"
report "nothing was refused that it needs" "" "$(journalctl --unit postseal --grep 'cannot|denied|not permitted' --output cat | head -3)"
echo 'done'

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
report "it is of type notify-reload" notify-reload "$(property postseal Type)"
report "its socketmap socket is systemd's" active "$(systemctl is-active postseal-socketmap.socket)"
report "it answers Postfix" NOTFOUND "$(ask '[192.0.2.1]')"
report "the DNS socket waits to be enabled" "disabled inactive" \
    "$(systemctl is-enabled postseal-dns.socket) $(systemctl is-active postseal-dns.socket)"
pid=$(property postseal MainPID)
report "it is not root, and without a capability" "yes 0000000000000000" \
    "$([ "$(awk '/^Uid/ { print $2 }' "/proc/$pid/status")" -gt 60000 ] && echo yes) $(awk '/^CapEff/ { print $2 }' "/proc/$pid/status")"
report "root's commands reach it" 1 "$(postseal status 2>&1 | grep -c 'not ready: ')"

printf '[policy.overrides]\n"partner.example" = "encrypt"\n' >/etc/postseal/postseal.toml
systemctl reload postseal && report "a reload ends when it is done" "OK encrypt" "$(ask partner.example)"
report "a reload is no restart" "$pid" "$(property postseal MainPID)"

failed=0
systemctl restart postseal &
answered() { [ "$(ask partner.example)" = "OK encrypt" ]; }
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

systemctl stop postseal-socketmap.socket postseal.service
systemctl enable --quiet --now postseal-dns.socket
systemctl start postseal-socketmap.socket postseal.service
for address in 127.0.0.1 ::1; do
    for transport in udp tcp; do
        report "DNS on port 53 by systemd's socket, $transport, $address" 1234818000010001 "$(dns $transport $address)"
    done
done
report "and lookups on theirs" "OK encrypt" "$(ask partner.example)"
systemctl stop postseal-socketmap.socket postseal-dns.socket postseal.service
report "stopped, it ended by itself" "success 0" "$(property postseal Result) $(property postseal ExecMainStatus)"
report "nothing was refused that it needs" "" "$(journalctl --unit postseal --grep 'cannot|denied|not permitted' --output cat | head -3)"
echo 'done'

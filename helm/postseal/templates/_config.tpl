{{/* Configuration: a file from `config`, and the environment. */}}

{{/* One value as TOML, in one line. `toToml` would write whole numbers of values.yaml as floats. */}}
{{- define "postseal.tomlValue" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . }}{{ $pairs = append $pairs (printf "%s = %s" (toJson $key) (include "postseal.tomlValue" $value)) }}{{ end -}}
{{ "{ " }}{{ join ", " $pairs }}{{ " }" }}
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . }}{{ $items = append $items (include "postseal.tomlValue" .) }}{{ end -}}
[{{ join ", " $items }}]
{{- else if kindIs "string" . -}}
{{ toJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ printf "%.0f" . }}
{{- else if kindIs "invalid" . -}}
{{ fail "config: null is not a value; leave the key out" }}
{{- else -}}
{{ . }}
{{- end }}
{{- end }}

{{/* A map as TOML: keys of its own first, then its tables. */}}
{{- define "postseal.toml" -}}
{{- range $key, $value := . }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "postseal.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $section, $keys := . }}
{{- if kindIs "map" $keys }}

[{{ $section }}]
{{- range $key, $value := $keys }}
{{ toJson $key }} = {{ include "postseal.tomlValue" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* postseal.toml: `config`, and what the chart adds. */}}
{{- define "postseal.configFile" -}}
{{- $config := dict -}}
{{- if kindIs "string" .Values.config }}{{ $config = fromToml .Values.config }}{{ else }}{{ $config = deepCopy .Values.config }}{{ end -}}
{{- with $config.Error }}{{ fail (printf "config is not TOML: %s" .) }}{{ end -}}
{{- $instead := dict "state-dir" "persistence" "socketmap.listen" "kind" "http.listen" "kind" "dns.listen" "dns.enabled" "dns.allow" "dns.allow" "store.shared" "sharedStore.existingSecret" -}}
{{- range $key, $value := $instead -}}
  {{- $path := splitList "." $key -}}
  {{- $table := $config -}}
  {{- if eq (len $path) 2 }}{{ $table = default dict (get $config (first $path)) }}{{ end -}}
  {{- if hasKey $table (last $path) }}{{ fail (printf "config sets %s: that is for the chart to say, by the value %s" $key $value) }}{{ end -}}
{{- end -}}
{{- $forward := dig "resolver" "forward" list $config -}}
{{- if .Values.cluster.dnsServers -}}
  {{- range reverse (prepend .Values.cluster.zones .Values.cluster.domain) -}}
    {{- $forward = prepend $forward (dict "zone" . "servers" $.Values.cluster.dnsServers "insecure" true) -}}
  {{- end -}}
{{- end -}}
{{- if $forward }}{{ $_ := mergeOverwrite $config (dict "resolver" (dict "forward" $forward)) }}{{ end -}}
{{- if and .Values.dns.enabled (ne .Values.kind "Sidecar") }}{{ $_ := mergeOverwrite $config (dict "dns" (dict "allow" .Values.dns.allow)) }}{{ end -}}
# Made by Helm from the chart's values; where postseal listens is in the container's environment.
{{- include "postseal.toml" $config }}
{{- end }}

{{/* One address of every family at a port, as postseal's lists are written in the environment. Probes go to the pod's
first address, whatever the Service's is; a family that a node does not have is left out with a warning. */}}
{{- define "postseal.addresses" -}}
{{ printf "%s:%v,%s:%v" .ipv4 .port .ipv6 .port }}
{{- end }}

{{/* Environment: the image has these four variables as well, and the environment wins over the file. */}}
{{- define "postseal.environment" -}}
{{- $all := dict "ipv4" "0.0.0.0" "ipv6" "[::]" -}}
{{- $loopback := dict "ipv4" "127.0.0.1" "ipv6" "[::1]" -}}
{{- $sidecar := eq .Values.kind "Sidecar" -}}
- name: POSTSEAL_STATE_DIR
  value: /var/lib/postseal
- name: POSTSEAL_SOCKETMAP__LISTEN
  value: {{ include "postseal.addresses" (merge (dict "port" 8642) (ternary $loopback $all $sidecar)) | quote }}
- name: POSTSEAL_DNS__LISTEN
  {{- if $sidecar }}
  value: {{ include "postseal.addresses" (merge (dict "port" 53) $loopback) | quote }}
  {{- else if .Values.dns.enabled }}
  value: {{ include "postseal.addresses" (merge (dict "port" 10053) $all) | quote }}
  {{- else }}
  value: ""
  {{- end }}
- name: POSTSEAL_HTTP__LISTEN
  value: {{ include "postseal.addresses" (merge (dict "port" 9642) $all) | quote }}
{{- if not $sidecar }}
# Until no Service sends anything here any more.
- name: POSTSEAL_SHUTDOWN__LINGER
  value: {{ printf "%vs" .Values.lingerSeconds | quote }}
{{- end }}
{{- with .Values.sharedStore.existingSecret }}
- name: POSTSEAL_STORE__SHARED
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.sharedStore.key }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

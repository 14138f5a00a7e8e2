{{/*
A native sidecar for your own Postfix pods. With this chart as a dependency, `postseal: { kind: Sidecar, … }` in your
values, and in your pod's template:

    metadata:
      annotations:
        {{- include "postseal.sidecar.annotations" .Subcharts.postseal | nindent 8 }}
    spec:
      {{- include "postseal.sidecar.dns" .Subcharts.postseal | nindent 6 }}
      securityContext:
        {{- include "postseal.sidecar.podSecurityContext" .Subcharts.postseal | nindent 8 }}
      initContainers:
        {{- include "postseal.sidecar.container" .Subcharts.postseal | nindent 8 }}
      volumes:
        {{- include "postseal.sidecar.volumes" .Subcharts.postseal | nindent 8 }}

Without a chart of your own: the notes of `helm install` print the same, to paste.
*/}}

{{/* One item of initContainers. It starts before Postfix and ends after it. No readinessProbe: mail comes in, whatever
DNS is like outside. */}}
{{- define "postseal.sidecar.container" -}}
- {{ include "postseal.container" . | nindent 2 | trim }}
  restartPolicy: Always
  ports:
    - name: postseal-http
      containerPort: 9642
{{- end }}

{{/* An annotation that changes with the configuration: a change then rolls your pods. */}}
{{- define "postseal.sidecar.annotations" -}}
checksum/postseal-config: {{ include "postseal.configFile" . | sha256sum }}
{{- end }}

{{/* Items of volumes. */}}
{{- define "postseal.sidecar.volumes" -}}
{{- include "postseal.volumes" . }}
{{- end }}

{{/* Port 53 without a privilege: a container that is not root gets none of its capabilities, so NET_BIND_SERVICE would
not help. This sysctl is the pod's own, and safe by Kubernetes' list. */}}
{{- define "postseal.sidecar.podSecurityContext" -}}
sysctls:
  - name: net.ipv4.ip_unprivileged_port_start
    value: "53"
{{- if .Values.persistence.existingClaim }}
# A new volume belongs to root. The group of all volumes of the pod becomes this one, except where it already is.
fsGroup: {{ .Values.podSecurityContext.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}

{{/* dnsPolicy and dnsConfig. postseal alone: any other name server would be believed although it does not validate. */}}
{{- define "postseal.sidecar.dns" -}}
{{- include "postseal.dnsConfig" (dict "root" . "nameservers" (list "127.0.0.1")) }}
{{- end }}

{{- define "postseal.dnsConfig" -}}
{{- $domain := .root.Values.cluster.domain -}}
dnsPolicy: None
dnsConfig:
  nameservers: {{ toJson .nameservers }}
  searches: {{ list (printf "%s.svc.%s" .root.Release.Namespace $domain) (printf "svc.%s" $domain) $domain | toJson }}
  options:
    - name: ndots
      value: {{ .root.Values.dns.ndots | quote }}
    - name: trust-ad
{{- end }}

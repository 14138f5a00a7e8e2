{{/* What values.schema.json cannot say: values that do not go together. */}}
{{- define "postseal.checks" -}}
{{- $kind := .Values.kind -}}
{{- $many := include "postseal.many" . -}}
{{- if and .Values.autoscaling.enabled (not (has $kind (list "Deployment" "StatefulSet"))) -}}
{{- fail (printf "autoscaling.enabled: a %s has no number of replicas" $kind) -}}
{{- end -}}
{{- if .Values.persistence.enabled -}}
{{- if and (eq $kind "Deployment") $many -}}
{{- fail "a volume has one writer, so several replicas cannot share it: use kind: StatefulSet, or persistence.enabled: false (best with sharedStore.existingSecret)" -}}
{{- end -}}
{{- if eq $kind "DaemonSet" -}}
{{- fail "a volume has one writer, and a DaemonSet has a pod on each node: persistence.enabled must be false (best with sharedStore.existingSecret)" -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim (eq $kind "StatefulSet") -}}
{{- fail "persistence.existingClaim: a StatefulSet makes a claim for each replica" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled (eq $kind "Sidecar") (not .Values.podMonitor.selector) -}}
{{- fail "podMonitor.selector: which are your Postfix pods? Their labels, as matchLabels" -}}
{{- end -}}
{{- if and .Values.dns.enabled (ne $kind "Sidecar") -}}
{{- if not .Values.dns.clusterIP -}}
{{- fail "dns.enabled needs dns.clusterIP: a free address of the cluster's service range, for the resolv.conf of Postfix pods" -}}
{{- end -}}
{{- end -}}
{{- if and (or .Values.dns.enabled (eq $kind "Sidecar")) (not .Values.cluster.dnsServers) -}}
{{- fail (printf "cluster.dnsServers: who knows %s? See kubectl -n kube-system get service kube-dns" .Values.cluster.domain) -}}
{{- end -}}
{{- end }}

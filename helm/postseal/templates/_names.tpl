{{/* Names and labels. */}}

{{- define "postseal.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "postseal.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 58 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 58 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 58 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "postseal.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "postseal.fullname" .) .Values.serviceAccount.name }}
{{- else }}{{ default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "postseal.image" -}}
{{- with .Values.image -}}
{{- $repository := .repository -}}
{{- /* Another registry takes the place of the repository's own, which is what stands before the first slash. */ -}}
{{- with $.Values.global.imageRegistry }}{{ $repository = regexReplaceAll "^[^/]*[.:][^/]*/" $repository "" | printf "%s/%s" . }}{{ end -}}
{{- if .digest }}{{ $repository }}@{{ .digest }}{{ else }}{{ $repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Secrets for private registries: this chart's and the parent's. */}}
{{- define "postseal.imagePullSecrets" -}}
{{- $all := list -}}
{{- range concat .Values.imagePullSecrets (default list .Values.global.imagePullSecrets) -}}
{{- if kindIs "string" . }}{{ $all = append $all (dict "name" .) }}{{ else }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- with $all }}
imagePullSecrets:
  {{- toYaml (uniq .) | nindent 2 }}
{{- end }}
{{- end }}

{{/* metadata of a resource: `name`, `labels` and `annotations` are its own, on top of those of all. `namespace` where it
is not the release's. */}}
{{- define "postseal.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "postseal.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A map without the keys that are null: how a value is unset. */}}
{{- define "postseal.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $key, $value := . }}{{ if not (kindIs "invalid" $value) }}{{ $_ := set $kept $key $value }}{{ end }}{{ end -}}
{{ toYaml $kept }}
{{- end }}

{{/* True where more than one pod serves. */}}
{{- define "postseal.many" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) }}true{{ end }}
{{- end }}

{{/* Labels of every resource. */}}
{{- define "postseal.labels" -}}
app.kubernetes.io/name: {{ include "postseal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "postseal.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the pods that serve are found by. The pod of `helm test` is of another component. */}}
{{- define "postseal.selector" -}}
app.kubernetes.io/name: {{ include "postseal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

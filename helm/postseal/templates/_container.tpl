{{/* The container, as server and as sidecar. */}}

{{- define "postseal.container" -}}
name: postseal
image: {{ include "postseal.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
securityContext:
  {{- include "postseal.withoutNulls" .Values.securityContext | nindent 2 }}
env:
  {{- include "postseal.environment" . | nindent 2 }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
# Listening: the store has been read, lookups are answered.
startupProbe:
  httpGet: { path: /livez, port: postseal-http }
  {{- toYaml .Values.startupProbe | nindent 2 }}
livenessProbe:
  httpGet: { path: /livez, port: postseal-http }
  {{- toYaml .Values.livenessProbe | nindent 2 }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: postseal-config
    mountPath: /etc/postseal
    readOnly: true
  - name: postseal-state
    mountPath: /var/lib/postseal
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "postseal.volumes" -}}
- name: postseal-config
  configMap:
    name: {{ include "postseal.fullname" . }}
{{- if ne .Values.kind "StatefulSet" }}
{{ include "postseal.stateVolume" . }}
{{- else if not .Values.persistence.enabled }}
{{ include "postseal.stateVolume" . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A sidecar's own claim is for its pod's owner to make: see existingClaim. */}}
{{- define "postseal.stateVolume" -}}
{{- $claim := .Values.persistence.existingClaim -}}
{{- if ne .Values.kind "Sidecar" }}{{ $claim = default (include "postseal.fullname" .) $claim }}{{ end -}}
- name: postseal-state
{{- if and .Values.persistence.enabled $claim }}
  persistentVolumeClaim:
    claimName: {{ $claim }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .Values.persistence.size }}
{{- end }}
{{- end }}

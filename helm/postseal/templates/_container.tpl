{{/* The container, as server and as sidecar. */}}

{{/* Restricted Pod Security. Each container says all of it, so that it holds in anybody's pod. */}}
{{- define "postseal.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "postseal.container" -}}
name: postseal
image: {{ include "postseal.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
securityContext:
  {{- include "postseal.securityContext" . | nindent 2 }}
env:
  {{- include "postseal.environment" . | nindent 2 }}
# Listening: the store has been read, lookups are answered.
startupProbe:
  httpGet: { path: /livez, port: postseal-http }
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /livez, port: postseal-http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
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

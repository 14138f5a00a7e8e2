{{/* The pod that serves many Postfix pods. */}}
{{- define "postseal.pod" -}}
metadata:
  labels:
    {{- include "postseal.labels" . | nindent 4 }}
    app.kubernetes.io/component: server
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "postseal.configFile" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "postseal.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - {{ include "postseal.container" . | nindent 6 | trim }}
      # It can answer: see /readyz in docs/monitoring.md.
      readinessProbe:
        httpGet: { path: /readyz, port: postseal-http }
        {{- toYaml .Values.readinessProbe | nindent 8 }}
      ports:
        - name: socketmap
          containerPort: 8642
        - name: postseal-http
          containerPort: 9642
        {{- if .Values.dns.enabled }}
        # Not 53, which would need a privilege; the Service has 53.
        - name: dns-udp
          containerPort: 10053
          protocol: UDP
        - name: dns-tcp
          containerPort: 10053
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "postseal.volumes" . | nindent 4 }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml . | nindent 6 | trim }}
      labelSelector:
        matchLabels:
          {{- include "postseal.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- include "postseal.podPlacement" . | nindent 2 }}
{{- end }}

{{/* Where pods run and how they are secured: those that serve, and the check of the configuration. */}}
{{- define "postseal.podPlacement" -}}
securityContext:
  {{- include "postseal.withoutNulls" .Values.podSecurityContext | nindent 2 }}
{{- include "postseal.imagePullSecrets" . }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Labels of an object; called with a list of the root context and the component. */}}
{{- define "tagmask.labels" -}}
{{ include "tagmask.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{/* Labels that select the pods of a component; called as tagmask.labels. */}}
{{- define "tagmask.selector" -}}
app.kubernetes.io/name: tagmask
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Name of the claim of a volume; called with a list of the root context and the volume. */}}
{{- define "tagmask.claim" -}}
{{- $root := index . 0 -}}
{{- $volume := index . 1 -}}
{{- (index $root.Values.volumes $volume).existingClaim | default (printf "%s-%s" $root.Release.Name $volume) -}}
{{- end }}

{{/* Where the folders or prefixes `store` and `inbox` are: at the root of the containers, or in object storage. */}}
{{- define "tagmask.storage" -}}
{{- .Values.objectStorage.url | trimSuffix "/" -}}
{{- end }}

{{/* Secrets with variables of the environment for clients of object storage. */}}
{{- define "tagmask.storageSecrets" -}}
{{- if and .Values.objectStorage.url .Values.objectStorage.secret -}}
- secretRef: {name: {{ .Values.objectStorage.secret }}}
{{- end }}
{{- end }}

{{/* Fields of every pod: the user of the images, and no variables named after Services. */}}
{{- define "tagmask.pod" -}}
enableServiceLinks: false # TAGMASK_ and PREFECT_ are prefixes of settings
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Security context of every container. */}}
{{- define "tagmask.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Environment of a client of the Prefect API. */}}
{{- define "tagmask.prefectClient" -}}
- {name: PREFECT_API_URL, value: "http://{{ .Release.Name }}-prefect.{{ .Release.Namespace }}.svc:4200/api"}
- name: PREFECT_API_AUTH_STRING
  valueFrom: {secretKeyRef: {name: {{ .Values.retraining.authSecret }}, key: auth}}
- {name: PREFECT_HOME, value: /tmp/prefect}
{{- end }}

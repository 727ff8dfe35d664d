{{- define "modelworks.name" -}}
{{- if contains "modelworks" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-modelworks" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "modelworks.select" -}}
app.kubernetes.io/name: modelworks
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modelworks.labels" -}}
{{ include "modelworks.select" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "modelworks.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ if .root.Values.tls.secret }}HTTPS{{ else }}HTTP{{ end }}
  httpHeaders:
    - {name: Host, value: localhost}
{{- end }}

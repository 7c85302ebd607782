{{- define "mess-exchange.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "mess-exchange.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mess-exchange.labels" -}}
{{ include "mess-exchange.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Where people reach the exchange, as far as the chart can know it. */}}
{{- define "mess-exchange.publicUrl" -}}
{{- if .Values.settings.publicUrl -}}
{{ .Values.settings.publicUrl }}
{{- else if .Values.ingress.enabled -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.ingress.tls)) -}}
{{- with first .Values.ingress.hosts -}}
{{ $scheme }}://{{ .host }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What the chart's own Secret holds; empty if nothing secret is given inline. */}}
{{- define "mess-exchange.secretData" -}}
{{- $data := dict -}}
{{- with .Values.settings -}}
{{- $_ := set $data "registration-token" .registrationToken -}}
{{- $_ := set $data "operator-token" .operatorToken -}}
{{- $_ := set $data "secrets-key" .secretsKey -}}
{{- end -}}
{{- if eq .Values.storage.type "s3" -}}
{{- $_ := set $data "access-key" .Values.storage.s3.accessKey -}}
{{- $_ := set $data "secret-key" .Values.storage.s3.secretKey -}}
{{- end -}}
{{- range $key, $value := $data -}}
{{- with $value }}
{{ $key }}: {{ b64enc . }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "mess-exchange.plainEnv" -}}
{{- $name := index . 0 -}}
{{- with index . 1 }}
- name: {{ $name }}
  value: {{ quote . }}
{{- end -}}
{{- end }}

{{/* Not optional: a Secret or a key that is missing must stop the pod, not leave registration open. */}}
{{- define "mess-exchange.secretEnv" }}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}

{{- define "mess-exchange.env" -}}
{{- $own := include "mess-exchange.fullname" . -}}
- name: PORT
  value: "3000"
- name: STORAGE_TYPE
  value: {{ .Values.storage.type }}
{{- if eq .Values.storage.type "s3" }}
{{- with .Values.storage.s3 }}
{{- include "mess-exchange.plainEnv" (list "S3_ENDPOINT" .endpoint) }}
{{- include "mess-exchange.plainEnv" (list "S3_BUCKET" .bucket) }}
{{- include "mess-exchange.plainEnv" (list "S3_REGION" .region) }}
{{- if .existingSecret }}
{{- include "mess-exchange.secretEnv" (list "S3_ACCESS_KEY" .existingSecret .existingSecretKeys.accessKey) }}
{{- include "mess-exchange.secretEnv" (list "S3_SECRET_KEY" .existingSecret .existingSecretKeys.secretKey) }}
{{- else }}
{{- include "mess-exchange.secretEnv" (list "S3_ACCESS_KEY" $own "access-key") }}
{{- include "mess-exchange.secretEnv" (list "S3_SECRET_KEY" $own "secret-key") }}
{{- end }}
{{- end }}
{{- else }}
- name: STORAGE_PATH
  value: /data
{{- end }}
{{- include "mess-exchange.plainEnv" (list "PUBLIC_URL" (include "mess-exchange.publicUrl" .)) }}
{{- with .Values.settings }}
{{- include "mess-exchange.plainEnv" (list "DEFAULT_EXCHANGE" .defaultExchange) }}
{{- include "mess-exchange.plainEnv" (list "DEFAULT_TIMEZONE" .defaultTimezone) }}
{{- include "mess-exchange.plainEnv" (list "OUTBOUND_ALLOW_PRIVATE" (toString .outboundAllowPrivate)) }}
{{- include "mess-exchange.plainEnv" (list "JOIN" .join) }}
{{- include "mess-exchange.plainEnv" (list "EXCHANGES" (join "," .exchanges)) }}
{{- include "mess-exchange.plainEnv" (list "ALLOWED_HOSTS" (join "," .allowedHosts)) }}
{{- with int .trustProxy }}
{{- include "mess-exchange.plainEnv" (list "TRUST_PROXY" (toString .)) }}
{{- end }}
{{- with .limits }}
{{- include "mess-exchange.plainEnv" (list "LIMITS" (kindIs "string" . | ternary . (toJson .))) }}
{{- end }}
{{- with .nudges }}
{{- include "mess-exchange.plainEnv" (list "NUDGES" (toJson .)) }}
{{- end }}
{{- if .registrationToken }}
{{- include "mess-exchange.secretEnv" (list "REGISTRATION_TOKEN" $own "registration-token") }}
{{- else if and .existingSecret .existingSecretKeys.registrationToken }}
{{- include "mess-exchange.secretEnv" (list "REGISTRATION_TOKEN" .existingSecret .existingSecretKeys.registrationToken) }}
{{- end }}
{{- if .operatorToken }}
{{- include "mess-exchange.secretEnv" (list "OPERATOR_TOKEN" $own "operator-token") }}
{{- else if and .existingSecret .existingSecretKeys.operatorToken }}
{{- include "mess-exchange.secretEnv" (list "OPERATOR_TOKEN" .existingSecret .existingSecretKeys.operatorToken) }}
{{- end }}
{{- if .secretsKey }}
{{- include "mess-exchange.secretEnv" (list "SECRETS_KEY" $own "secrets-key") }}
{{- else if and .existingSecret .existingSecretKeys.secretsKey }}
{{- include "mess-exchange.secretEnv" (list "SECRETS_KEY" .existingSecret .existingSecretKeys.secretsKey) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Who may join, as the exchange itself makes it of its variables; empty if nobody has decided. */}}
{{- define "mess-exchange.join" -}}
{{- $env := include "mess-exchange.env" . | fromYamlArray -}}
{{- $join := "" -}}
{{- range $env -}}
{{- if and (eq .name "REGISTRATION_TOKEN") (not $join) -}}
{{- $join = "token" -}}
{{- else if eq .name "JOIN" -}}
{{- $join = .value | default "set elsewhere" -}}
{{- end -}}
{{- end -}}
{{ $join }}
{{- end }}

{{- define "mess-exchange.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "mess-exchange.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

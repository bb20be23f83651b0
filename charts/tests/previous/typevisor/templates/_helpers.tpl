{{- define "typevisor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* Begins the names of the chart's objects: the release's name, or with the chart's where that says nothing. */}}
{{- define "typevisor.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "typevisor.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "typevisor.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "typevisor.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: typevisor
{{ include "typevisor.selectorLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Without the chart's version: a new chart with the same images must not restart pods. */}}
{{- define "typevisor.podLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: typevisor
{{ include "typevisor.selectorLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "typevisor.selectorLabels" -}}
app.kubernetes.io/name: {{ include "typevisor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Image reference: a dict of `root` and `image` (repository, tag, digest). */}}
{{- define "typevisor.image" -}}
{{- $first := first (splitList "/" .image.repository) }}
{{- $named := and (contains "/" .image.repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) }}
{{- $repository := ternary .image.repository (printf "%s/%s" .root.Values.imageRegistry .image.repository) $named }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "typevisor.operatorServiceAccount" -}}
{{- .Values.operator.serviceAccount.name | default (ternary (printf "%s-operator" (include "typevisor.fullname" .)) "default" .Values.operator.serviceAccount.create) }}
{{- end }}

{{- define "typevisor.nodeServiceAccount" -}}
{{- .Values.node.serviceAccount.name | default (ternary (printf "%s-node" (include "typevisor.fullname" .)) "default" .Values.node.serviceAccount.create) }}
{{- end }}

{{- define "typevisor.operatorPriorityClass" -}}
{{- if .Values.priorityClasses.operator.create }}{{ include "typevisor.fullname" . }}-operator{{ end }}
{{- end }}

{{- define "typevisor.launcherPriorityClass" -}}
{{- if .Values.priorityClasses.launcher.create }}{{ include "typevisor.fullname" . }}-launcher{{ end }}
{{- end }}

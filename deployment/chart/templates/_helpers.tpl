{{- define "onetake.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: a Deployment's selector cannot. */}}
{{- define "onetake.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "onetake.labels" -}}
{{ include "onetake.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Values.image.tag | trunc 63 | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "onetake.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "onetake.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "onetake.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* A value as text; Helm reads whole numbers as floats. */}}
{{- define "onetake.text" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{- define "onetake.queue" -}}
{{ index .Values.settings "ONETAKE_TASK_QUEUE" | default "onetake" }}
{{- end -}}

{{/* How a role is scaled: "" for a fixed number, else hpa or scaledobject. */}}
{{- define "onetake.autoscaler" -}}
{{- $values := .root.Values -}}
{{- if (index $values.workers .role).autoscaling.enabled -}}
{{- if eq $values.profile "plain" -}}hpa{{- else if eq $values.profile "keda" -}}scaledobject{{- else -}}{{ $values.controller.autoscaler }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* "yes" when the Worker Controller runs this role. */}}
{{- define "onetake.controlled" -}}
{{- if and (eq .root.Values.profile "controller") (eq .role "orchestrate") -}}yes{{- end -}}
{{- end -}}

{{/* -- Checks that the schema cannot make ------------------------------------------------------------------------- */}}

{{/* Connections that all processes may open at once. One pod more of each role is there in an update, and a second
version of what the Worker Controller runs. */}}
{{- define "onetake.connections" -}}
{{- $each := add (mul 2 .Values.database.pool) 1 -}}
{{- $gateway := .Values.gateway -}}
{{- $processes := add 1 (ternary $gateway.autoscaling.maxReplicas $gateway.replicas $gateway.autoscaling.enabled) -}}
{{- range $role, $worker := .Values.workers -}}
{{- $pods := ternary $worker.autoscaling.maxReplicas $worker.replicas $worker.autoscaling.enabled -}}
{{- $versions := ternary 2 1 (eq (include "onetake.controlled" (dict "root" $ "role" $role)) "yes") -}}
{{- $processes = add $processes (mul $versions (add 1 $pods)) -}}
{{- end -}}
{{ mul $processes $each }}
{{- end -}}

{{- define "onetake.checks" -}}
{{- $needed := include "onetake.connections" . | int -}}
{{- $room := sub .Values.database.maxConnections .Values.database.reserve -}}
{{- if gt $needed (int $room) -}}
{{- fail (printf "The processes may open %d database connections, but database.maxConnections - database.reserve leaves %d: take fewer replicas, a smaller database.pool, or a larger server." $needed $room) -}}
{{- end -}}
{{- $scaled := list -}}
{{- range $role, $worker := .Values.workers -}}
{{- if $worker.autoscaling.enabled -}}
{{- $scaled = append $scaled $role -}}
{{- if gt (int $worker.autoscaling.minReplicas) (int $worker.autoscaling.maxReplicas) -}}
{{- fail (printf "workers.%s.autoscaling: minReplicas is above maxReplicas." $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.profile "keda") (not $scaled) -}}
{{- fail "Profile keda scales nothing: set workers.ROLE.autoscaling.enabled for a role." -}}
{{- end -}}
{{- if lt (int .Values.gateway.terminationGracePeriodSeconds) (int (add .Values.gateway.preStopSeconds 15)) -}}
{{- fail "gateway.terminationGracePeriodSeconds must be 15 above gateway.preStopSeconds at least: requests under way end within that time." -}}
{{- end -}}
{{- range $name := list "serviceMonitor" "prometheusRule" "dashboards" -}}
{{- if and (not $.Values.metrics.enabled) (index $.Values.metrics $name).enabled -}}
{{- fail (printf "metrics.%s.enabled: there are no metrics while metrics.enabled is false." $name) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.profile "controller") .Values.versioning.deploymentName -}}
{{- fail "versioning: the Worker Controller names deployments and builds itself; leave it out, or use the profile plain or keda." -}}
{{- end -}}
{{- if and (eq .Values.profile "controller") .Values.temporal.tls.caSecretName -}}
{{- fail "temporal.tls.caSecretName: the Worker Controller's Connection has no authority of its own; use the profile plain or keda." -}}
{{- end -}}
{{- end -}}

{{/* -- Pods ------------------------------------------------------------------------------------------------------- */}}

{{- define "onetake.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "onetake.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Whose Secrets a component gets: only workers, the doctor and the command line have a use for vendors' and the store's keys. */}}
{{- define "onetake.secretsVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
    {{- range .root.Values.secrets.everyone }}
      - secret: { name: {{ . }} }
    {{- end }}
    {{- if has .component (list "orchestrate" "vendors" "media" "doctor" "cli") }}
    {{- range .root.Values.secrets.workers }}
      - secret: { name: {{ . }} }
    {{- end }}
    {{- end }}
    {{- $key := .root.Values.temporal.apiKey }}
    {{- if and (eq .component "search-attributes") .root.Values.searchAttributes.apiKey.secretName }}
    {{- $key = .root.Values.searchAttributes.apiKey }}
    {{- end }}
    {{- if and $key.secretName (not (include "onetake.controlled" (dict "root" .root "role" .component))) (ne .component "migrate") }}
      - secret: { name: {{ $key.secretName }}, items: [{ key: {{ $key.key }}, path: TEMPORAL_API_KEY }] }
    {{- end }}
{{- end -}}

{{- define "onetake.temporalEnv" -}}
- { name: TEMPORAL_ADDRESS, value: {{ .root.Values.temporal.address | quote }} }
- { name: TEMPORAL_NAMESPACE, value: {{ .root.Values.temporal.namespace | quote }} }
{{- with .root.Values.temporal.tls }}
{{- if or .enabled .clientSecretName .caSecretName }}
- { name: TEMPORAL_TLS, value: "true" }
{{- end }}
{{- if .clientSecretName }}
- { name: TEMPORAL_TLS_CLIENT_CERT_PATH, value: /run/secrets/temporal/tls.crt }
- { name: TEMPORAL_TLS_CLIENT_KEY_PATH, value: /run/secrets/temporal/tls.key }
{{- end }}
{{- if .caSecretName }}
- { name: TEMPORAL_TLS_SERVER_CA_CERT_PATH, value: /run/secrets/temporal-ca/ca.crt }
{{- end }}
{{- if .serverName }}
- { name: TEMPORAL_TLS_SERVER_NAME, value: {{ .serverName | quote }} }
{{- end }}
{{- end }}
{{- end -}}

{{- define "onetake.env" -}}
{{- $values := .root.Values -}}
- { name: ONETAKE_SECRETS_DIR, value: /run/secrets/onetake }
- { name: ONETAKE_DATABASE_POOL, value: {{ $values.database.pool | quote }} }
- { name: ONETAKE_SPOOL_DIR, value: /var/spool/onetake }
{{- if and $values.metrics.enabled .serves }}
- { name: ONETAKE_METRICS_BIND, value: "0.0.0.0:9464" }
{{- end }}
{{- if $values.prices.existingConfigMap }}
- { name: ONETAKE_PRICES, value: /etc/onetake/prices.toml }
{{- end }}
{{- range $name, $value := $values.settings }}
- { name: {{ $name }}, value: {{ include "onetake.text" $value | quote }} }
{{- end }}
{{- if and $values.tracing.endpoint .serves }}
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ $values.tracing.endpoint | quote }} }
{{- end }}
{{- if not (include "onetake.controlled" (dict "root" .root "role" .component)) }}
{{ include "onetake.temporalEnv" . }}
{{- if and (has .component (list "orchestrate" "cli" "doctor")) $values.versioning.deploymentName }}
- { name: TEMPORAL_DEPLOYMENT_NAME, value: {{ $values.versioning.deploymentName | quote }} }
{{- end }}
{{- if and (eq .component "orchestrate") $values.versioning.deploymentName }}
- { name: TEMPORAL_WORKER_BUILD_ID, value: {{ $values.versioning.buildId | quote }} }
{{- end }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "onetake.mounts" -}}
{{- $values := .root.Values -}}
- { name: secrets, mountPath: /run/secrets/onetake, readOnly: true }
- { name: tmp, mountPath: /tmp }
- { name: spool, mountPath: /var/spool/onetake }
{{- if $values.prices.existingConfigMap }}
- { name: prices, mountPath: /etc/onetake, readOnly: true }
{{- end }}
{{- if not (include "onetake.controlled" (dict "root" .root "role" .component)) }}
{{- if $values.temporal.tls.clientSecretName }}
- { name: temporal, mountPath: /run/secrets/temporal, readOnly: true }
{{- end }}
{{- if $values.temporal.tls.caSecretName }}
- { name: temporal-ca, mountPath: /run/secrets/temporal-ca, readOnly: true }
{{- end }}
{{- end }}
{{- with $values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the spool may hold: eight clips of each vendor, each of the largest size, and what stays free. */}}
{{- define "onetake.spoolSize" -}}
{{- $values := .root.Values -}}
{{- if eq .component "media" -}}
{{- $clip := include "onetake.text" (index $values.settings "ONETAKE_ASSET_MAX_BYTES" | default 536870912) | int64 -}}
{{- $free := include "onetake.text" (index $values.settings "ONETAKE_SPOOL_RESERVE_BYTES" | default 67108864) | int64 -}}
{{- $bytes := add (mul 8 (len $values.vendors) $clip) $free -}}
{{ default (printf "%dMi" (div (add $bytes 1048575) 1048576)) $values.workers.media.spoolSizeLimit }}
{{- else if eq .component "orchestrate" -}}
{{ $values.workers.orchestrate.spoolSizeLimit }}
{{- else -}}
16Mi
{{- end -}}
{{- end -}}

{{- define "onetake.volumes" -}}
{{- $values := .root.Values -}}
{{ include "onetake.secretsVolume" . }}
- name: tmp
  emptyDir: { medium: Memory, sizeLimit: 64Mi }
- name: spool
  emptyDir: { sizeLimit: {{ include "onetake.spoolSize" . }} }
{{- with $values.prices }}
{{- if .existingConfigMap }}
- name: prices
  configMap: { name: {{ .existingConfigMap }}, items: [{ key: {{ .key }}, path: prices.toml }] }
{{- end }}
{{- end }}
{{- if not (include "onetake.controlled" (dict "root" .root "role" .component)) }}
{{- with $values.temporal.tls }}
{{- if .clientSecretName }}
- name: temporal
  secret: { secretName: {{ .clientSecretName }}, defaultMode: 0440 }
{{- end }}
{{- if .caSecretName }}
- name: temporal-ca
  secret: { secretName: {{ .caSecretName }}, defaultMode: 0440 }
{{- end }}
{{- end }}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A pod without a port: {root, component, args or command, resources, serviceAccount, restartPolicy, preStop}. */}}
{{- define "onetake.jobPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if .serviceAccount }}
serviceAccountName: {{ .serviceAccount }}
{{- end }}
restartPolicy: {{ .restartPolicy | default "Never" }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "onetake.podSecurity" . | nindent 2 }}
containers:
  - name: {{ .component }}
    image: {{ include "onetake.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    {{- with .command }}
    command: {{ toJson . }}
    {{- end }}
    {{- with .args }}
    args: {{ toJson . }}
    {{- end }}
    env:
      {{- include "onetake.env" . | nindent 6 }}
    {{- with .preStop }}
    lifecycle:
      preStop:
        exec: { command: {{ toJson . }} }
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    securityContext:
      {{- include "onetake.containerSecurity" . | nindent 6 }}
    volumeMounts:
      {{- include "onetake.mounts" . | nindent 6 }}
volumes:
  {{- include "onetake.volumes" . | nindent 2 }}
{{- end -}}

{{/* A pod that serves: {root, component, values, args, port, serves}. */}}
{{- define "onetake.servingPod" -}}
{{- $values := .root.Values -}}
{{- $selector := fromYaml (include "onetake.selector" .root) -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "onetake.serviceAccountName" .root }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "onetake.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.component }}
  {{- end }}
securityContext:
  {{- include "onetake.podSecurity" . | nindent 2 }}
containers:
  - name: {{ .component }}
    image: {{ include "onetake.image" .root }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: {{ toJson .args }}
    env:
      {{- include "onetake.env" . | nindent 6 }}
    ports:
      - { name: {{ .portName }}, containerPort: {{ .port }} }
      {{- if $values.metrics.enabled }}
      - { name: metrics, containerPort: 9464 }
      {{- end }}
    startupProbe:
      httpGet: { path: /healthz, port: {{ .portName }} }
      periodSeconds: 1
      failureThreshold: 60
    livenessProbe:
      httpGet: { path: /healthz, port: {{ .portName }} }
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: { path: /readyz, port: {{ .portName }} }
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 2
    {{- if eq .component "gateway" }}
    lifecycle:
      preStop:
        sleep: { seconds: {{ .values.preStopSeconds }} }
    {{- end }}
    resources:
      {{- toYaml .values.resources | nindent 6 }}
    securityContext:
      {{- include "onetake.containerSecurity" . | nindent 6 }}
    volumeMounts:
      {{- include "onetake.mounts" . | nindent 6 }}
volumes:
  {{- include "onetake.volumes" . | nindent 2 }}
{{- end -}}

{{/* Labels and annotations of a serving pod. Nothing of the release is in them: each change of them would be a new
version under the Worker Controller. */}}
{{- define "onetake.podMetadata" -}}
labels:
  {{- include "onetake.selector" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "onetake.workerArgs" -}}
{{- toJson (list "worker" "--role" . "--health-host" "0.0.0.0" "--health-port" "8081") -}}
{{- end -}}

{{- define "onetake.workerPod" -}}
{{- $worker := index .root.Values.workers .role -}}
{{- $args := include "onetake.workerArgs" .role | fromJsonArray -}}
{{- include "onetake.servingPod" (dict "root" .root "component" .role "values" $worker "args" $args "port" 8081 "portName" "health" "serves" true) -}}
{{- end -}}

{{/* -- Scaling ---------------------------------------------------------------------------------------------------- */}}

{{- define "onetake.hpaSpec" -}}
minReplicas: {{ .minReplicas }}
maxReplicas: {{ .maxReplicas }}
metrics:
  - type: Resource
    resource:
      name: cpu
      target: { type: Utilization, averageUtilization: {{ .targetCPUUtilizationPercentage }} }
behavior:
  scaleDown:
    stabilizationWindowSeconds: 300
    policies:
      - { type: Pods, value: 1, periodSeconds: 60 }
{{- end -}}

{{/* The queues on whose backlog a role is scaled. */}}
{{- define "onetake.queues" -}}
{{- $base := include "onetake.queue" .root -}}
{{- $step := get (dict "vendors" "submit" "media" "media") .role -}}
{{- $queues := list -}}
{{- if $step -}}
{{- range .root.Values.vendors -}}{{- $queues = append $queues (printf "%s-%s-%s" $base $step .) -}}{{- end -}}
{{- else -}}
{{- $queues = list $base -}}
{{- end -}}
{{ toJson $queues }}
{{- end -}}

{{/* A ScaledObject's spec without its target: {root, role}. */}}
{{- define "onetake.scaledObjectSpec" -}}
{{- $values := .root.Values -}}
{{- $scaling := (index $values.workers .role).autoscaling -}}
{{- $temporal := $values.temporal -}}
{{- $authenticated := or $temporal.apiKey.secretName $temporal.tls.clientSecretName -}}
{{- if and (not $temporal.tls.clientSecretName) (or $temporal.tls.caSecretName (and $temporal.tls.enabled (not $temporal.apiKey.secretName))) -}}
{{- fail "KEDA's trigger for Temporal uses TLS with an API key or a client certificate only, and a private authority with a certificate only: set temporal.tls.clientSecretName, or do not scale by KEDA." -}}
{{- end -}}
pollingInterval: {{ $values.keda.pollingInterval }}
minReplicaCount: {{ $scaling.minReplicas }}
maxReplicaCount: {{ $scaling.maxReplicas }}
advanced:
  horizontalPodAutoscalerConfig:
    behavior:
      scaleDown:
        stabilizationWindowSeconds: {{ $values.keda.stabilizationWindowSeconds }}
        policies:
          - { type: Pods, value: 1, periodSeconds: 60 }
triggers:
  {{- range include "onetake.queues" . | fromJsonArray }}
  - type: temporal
    metadata:
      endpoint: {{ $temporal.address | quote }}
      namespace: {{ $temporal.namespace | quote }}
      taskQueue: {{ . | quote }}
      queueTypes: {{ ternary "workflow,activity" "activity" (eq $.role "orchestrate") }}
      targetQueueSize: {{ $scaling.targetQueueSize | quote }}
      {{- with $temporal.tls.serverName }}
      tlsServerName: {{ . | quote }}
      {{- end }}
      {{- if include "onetake.controlled" $ }}
      workerDeploymentName: ""
      workerDeploymentBuildId: ""
      {{- else if and (eq $.role "orchestrate") $values.versioning.deploymentName }}
      workerDeploymentName: {{ $values.versioning.deploymentName | quote }}
      workerDeploymentBuildId: {{ $values.versioning.buildId | quote }}
      {{- end }}
    {{- if $authenticated }}
    authenticationRef: { name: {{ include "onetake.fullname" $.root }}-temporal }
    {{- end }}
  {{- end }}
  {{- if and (eq .role "vendors") $values.keda.prometheusAddress }}
  - type: prometheus
    metadata:
      serverAddress: {{ $values.keda.prometheusAddress | quote }}
      query: {{ include "onetake.slotsQuery" .root | quote }}
      threshold: {{ $values.keda.slotsInUse | quote }}
  {{- end }}
{{- end -}}

{{/* Pods' worth of used slots: the share in use of the queue that is fullest, times the pods. */}}
{{- define "onetake.slotsQuery" -}}
{{- $queues := printf "task_queue=~\"%s-(submit|read)-.+\"" (include "onetake.queue" .) -}}
max(sum by (task_queue) (temporal_worker_task_slots_used{ {{- $queues -}} }) / (avg by (task_queue) (temporal_worker_task_slots_used{ {{- $queues -}} } + temporal_worker_task_slots_available{ {{- $queues -}} })))
{{- end -}}

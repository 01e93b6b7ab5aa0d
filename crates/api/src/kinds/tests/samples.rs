//! Whole objects, rich in fields, from which trees are mutated.

pub(super) const ALL: &[&str] = &[
    POD, SERVICE, DEPLOYMENT, CRON_JOB, AUTOSCALER, DEFINITION, WEBHOOKS, VOLUME, DEVICES, CLAIM, SCHEMA,
    STATUS,
];

const POD: &str = r#"{
  "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
  "spec": {
    "hostNetwork": true, "hostname": "h", "subdomain": "s", "nodeName": "n", "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "x"}]},
    "hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a"]}],
    "resources": {"limits": {"cpu": "1"}},
    "overhead": {"cpu": "1"},
    "schedulingGates": [{"name": "a"}], "readinessGates": [{"conditionType": "a/b"}],
    "securityContext": {"runAsUser": 1, "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}], "supplementalGroups": [1]},
    "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 1}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule",
      "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["app"]}],
    "affinity": {
      "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}], "matchFields": []}]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": []}}]},
      "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a", "labelSelector": {}}],
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "a",
          "labelSelector": {}, "matchLabelKeys": ["app"]}}]}
    },
    "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}],
    "containers": [{
      "name": "a", "image": "a:1", "command": ["x"],
      "ports": [{"name": "http", "containerPort": 80}],
      "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
      "envFrom": [{"configMapRef": {"name": "c"}}],
      "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m"}},
      "volumeMounts": [{"name": "v", "mountPath": "/v"}],
      "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"exec": {"command": ["x"]}},
      "startupProbe": {"tcpSocket": {"port": "http"}},
      "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
      "securityContext": {"capabilities": {"add": ["X"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    }],
    "ephemeralContainers": [{"name": "e", "image": "e", "targetContainerName": "a"}],
    "volumes": [
      {"name": "v"}, {"name": "c", "configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}},
      {"name": "s", "secret": {"secretName": "s"}}, {"name": "h", "hostPath": {"path": "/"}},
      {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
        {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
      {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}}},
      {"name": "r", "rbd": {"monitors": ["a"], "image": "b"}}, {"name": "k", "csi": {"driver": "a.b"}}
    ]
  },
  "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
}"#;

const SERVICE: &str = r#"{
  "metadata": {"name": "web", "namespace": "default"},
  "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
    "selector": {"a": "b"}, "sessionAffinity": "ClientIP", "externalIPs": ["1.1.1.1"],
    "loadBalancerSourceRanges": ["10.0.0.0/8"],
    "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "targetPort": "http"}]},
  "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}
}"#;

const DEPLOYMENT: &str = r#"{
  "metadata": {"name": "web", "namespace": "default", "annotations": {"a": "b"}},
  "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "serviceName": "x",
    "strategy": {"rollingUpdate": {"maxSurge": "10%"}}, "updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}},
    "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"],
      "resources": {"requests": {"storage": "1Gi"}}}}],
    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}}
}"#;

const CRON_JOB: &str = r#"{
  "metadata": {"name": "web", "namespace": "default"},
  "spec": {"schedule": "*/5 * * * *", "timeZone": "Etc/UTC", "completions": 1, "backoffLimitPerIndex": 1,
    "jobTemplate": {"spec": {"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "X"}]},
      {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]},
      "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}}}
}"#;

const AUTOSCALER: &str = r#"{
  "metadata": {"name": "web", "namespace": "default"},
  "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}}}],
    "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}]}},
    "policyTypes": [], "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": {}}]}],
    "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
    "rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix",
      "backend": {"service": {"name": "a", "port": {"number": 80}}}}]}}],
    "limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}}], "hard": {"cpu": "1"},
    "minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}
}"#;

const DEFINITION: &str = r#"{
  "metadata": {"name": "widgets.example.com"},
  "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
    "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {},
      "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
      "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "array", "items": {"type": "string"}}}}}}],
    "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"service": {"name": "a", "namespace": "b"}},
      "conversionReviewVersions": ["v1"]}}}
}"#;

const WEBHOOKS: &str = r#"{
  "metadata": {"name": "hooks"},
  "webhooks": [{"name": "a.b.c", "clientConfig": {"service": {"name": "a", "namespace": "b", "path": "/x"}},
    "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods/*"]}],
    "sideEffects": "None", "admissionReviewVersions": ["v1"], "matchConditions": [{"name": "x", "expression": "true"}]}],
  "roleRef": {"kind": "Role", "name": "a"}, "subjects": [{"kind": "User", "name": "u"}],
  "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
  "subsets": [{"addresses": [{"ip": "1.2.3.4"}], "ports": [{"port": 80}]}],
  "endpoints": [{"addresses": ["1.2.3.4"], "conditions": {"ready": true}}], "addressType": "IPv4", "ports": [{"port": 80}],
  "data": {"a": "eA=="}, "stringData": {"b": "c"}, "type": "kubernetes.io/tls", "secrets": [{"name": "a"}],
  "handler": "runc", "value": 1000, "provisioner": "a/b", "parameters": {"a": "b"},
  "spec": {"holderIdentity": "x", "leaseDurationSeconds": 15, "request": "eA==", "signerName": "a.b/c", "usages": ["digital signature"],
    "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["*"]}]},
    "validations": [{"expression": "true"}], "variables": [{"name": "a", "expression": "1"}],
    "policyName": "p", "validationActions": ["Deny"], "devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "b"}}]},
    "type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}},
    "priorityLevelConfiguration": {"name": "a"}, "rules": [{"subjects": [{"kind": "User", "user": {"name": "a"}}],
      "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]}
}"#;

const VOLUME: &str = r#"{
  "metadata": {"name": "v"},
  "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
    "storageClassName": "a", "resources": {"requests": {"storage": "1Gi"}}, "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": []}]}}, "claimRef": {"name": "a"},
    "attacher": "a", "nodeName": "b", "source": {"persistentVolumeName": "c", "inlineVolumeSpec": {"iscsi": {}}},
    "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "a", "effect": "NoSchedule"}],
    "drivers": [{"name": "a", "nodeID": "b", "topologyKeys": ["c"]}], "cidrs": ["10.0.0.0/8"]},
  "status": {"capacity": {"cpu": "4"}, "phase": "Bound"}
}"#;

const DEVICES: &str = r#"{
  "metadata": {"name": "s"},
  "spec": {"driver": "d.e", "pool": {"name": "p/q", "resourceSliceCount": 1}, "perDeviceNodeSelection": true,
    "devices": [{"name": "a", "allNodes": true, "allowMultipleAllocations": true,
      "attributes": {"d.e/f": {"strings": ["a"]}, "v": {"version": "1.2.3-rc.1+b"}},
      "capacity": {"m": {"value": "8", "requestPolicy": {"default": "2", "validRange": {"min": "1", "max": "4", "step": "1"}}},
        "n": {"value": "8", "requestPolicy": {"default": "2", "validValues": ["1", "2"]}}},
      "taints": [{"key": "a", "effect": "NoSchedule"}], "bindingConditions": ["a"], "bindingFailureConditions": ["b"],
      "consumesCounters": [{"counterSet": "a", "counters": {"m": {"value": "1"}}}],
      "nodeAllocatableResourceMappings": {"memory": {"capacityKey": "m", "allocationMultiplier": "1"}}}],
    "sharedCounters": [{"name": "a", "counters": {"m": {"value": "1"}}}]}
}"#;

const CLAIM: &str = r#"{
  "metadata": {"name": "c", "deletionTimestamp": "2026-01-01T00:00:00Z"},
  "spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c", "selectors": [{"cel": {"expression":
      "true"}}], "tolerations": [{"operator": "Exists"}]}}, {"name": "b", "firstAvailable": [{"name": "x",
      "deviceClassName": "c"}]}], "constraints": [{"requests": ["a", "b/x"], "matchAttribute": "d.e/f"}],
      "config": [{"opaque": {"driver": "d.e", "parameters": {"k": "v"}}}]},
    "selectors": [{"cel": {"expression": "true"}}], "extendedResourceName": "a.b/c"},
  "status": {"reservedFor": [{"resource": "pods", "name": "a", "uid": "b"}],
    "allocation": {"devices": {"results": [{"request": "a", "driver": "d", "pool": "p", "device": "v",
      "shareID": "01234567-89ab-cdef-0123-456789abcdef"}], "config": [{"source": "FromClass"}]}},
    "devices": [{"driver": "d", "pool": "p", "device": "v", "data": {}, "networkData": {"ips": ["10.0.0.1/24"]}}]}
}"#;

const SCHEMA: &str = r#"{
  "metadata": {"name": "ws.k8s.io", "annotations": {"api-approved.kubernetes.io": "https://a"}},
  "spec": {"group": "k8s.io", "scope": "Cluster", "names": {"plural": "ws", "kind": "W"},
    "versions": [{"name": "v1", "storage": true, "deprecated": true, "deprecationWarning": "a",
      "selectableFields": [{"jsonPath": ".spec.k"}],
      "additionalPrinterColumns": [{"name": "a", "type": "string", "jsonPath": ".spec.k"}],
      "schema": {"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"k": {"type": "string"}}, "x-kubernetes-validations":
          [{"rule": "true", "message": "m", "fieldPath": ".k"}]},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
          {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
        "any": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "not": {"type": "string", "not": {"maxLength": 1}, "allOf": [{"oneOf": [{"minLength": 1}]}]},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}}}}}},
      {"name": "v2", "schema": {"openAPIV3Schema": {"type": "object"}}}]},
  "status": {"storedVersions": ["v1"], "acceptedNames": {"kind": "W"},
    "conditions": [{"type": "Established", "status": "True"}]}
}"#;

const STATUS: &str = r#"{
  "metadata": {"name": "j", "labels": {"job-name": "j", "controller-uid": "u"}},
  "allowedTopologies": [{"matchLabelExpressions": [{"key": "a", "values": ["b"]}]}], "nodeTopology": {"matchLabels": {"a": "b"}},
  "capacity": "1Gi", "storageClassName": "a", "volumeBindingMode": "Immediate", "driverName": "a.b",
  "webhooks": [{"clientConfig": {"url": "https://a@b:1/c?d#e"}}], "scheduling": {"nodeSelector": {"a": "b"}},
  "spec": {"completions": 5, "parallelism": 2, "completionMode": "Indexed", "tokenRequests": [{"audience": "a"}],
    "group": "a.b", "version": "v1", "service": {"name": "a", "namespace": "b"}, "caBundle": "YQ==", "paramRef": {"name": "a"},
    "paramKind": {"apiVersion": "a/v1", "kind": "A"}, "auditAnnotations": [{"key": "a", "valueExpression": "b"}],
    "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}], "matchResources": {"objectSelector": {}},
    "exempt": {"lendablePercent": 1}, "request": "LS0tLS1CRUdJTiBBLS0tLS0KLS0tLS1FTkQgQS0tLS0tCg==",
    "volumes": [{"name": "v", "configMap": {"items": [{"path": "a"}, {"path": "a/b"}]}}]},
  "status": {"completedIndexes": "0,2-3", "failedIndexes": "1", "succeeded": 3, "failed": 1, "ready": 1, "active": 1,
    "uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["b"]}, "attachError": {"message": "m", "errorCode": 1},
    "typeChecking": {"expressionWarnings": [{"fieldRef": "spec.a", "warning": "w"}]}, "certificate": "eA==",
    "conditions": [{"type": "Approved", "status": "True"}, {"type": "Failed", "status": "False"}]}
}"#;

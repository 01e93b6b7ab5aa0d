//! The least object of each kind that the API takes, and a change of it: a line or a few for each row of the resource
//! table.
//!
//! `$ID` is a word that makes objects of one kind differ, `$N` a small number that does, `$NS` the namespace, and `$CSR` a
//! certificate signing request.

/// A row of the resource table, and an object for it.
pub(crate) struct Sample {
    pub(crate) api_version: &'static str,
    pub(crate) resource: &'static str,
    /// YAML without `apiVersion` and `kind`.
    pub(crate) object: &'static str,
    /// A JSON merge patch of what is not metadata.
    pub(crate) change: &'static str,
}

/// Of an object in which nothing but metadata can change.
pub(crate) const SETTLED: &str = "{}";

/// Every resource that is stored.
#[rustfmt::skip]
pub(crate) const STORED: &[Sample] = &[
    sample("v1", "configmaps", "{metadata: {name: $ID}, data: {a: b}}", "{data: {a: c}}"),
    sample("v1", "endpoints", "{metadata: {name: $ID}, subsets: [{addresses: [{ip: 10.9.8.7}], ports: [{port: 80}]}]}", "{subsets: [{addresses: [{ip: 10.9.8.6}], ports: [{port: 81}]}]}"),
    sample("v1", "events", "
        metadata: {name: core-$ID}
        involvedObject: {kind: Pod, name: a, namespace: $NS}
        reason: Tested
        type: Normal", "{message: changed, count: 2}"),
    sample("v1", "limitranges", "{metadata: {name: $ID}, spec: {limits: [{type: Container, max: {cpu: '4'}}]}}", "{spec: {limits: [{type: Container, max: {cpu: '5'}}]}}"),
    sample("v1", "namespaces", "{metadata: {name: $ID}}", SETTLED),
    sample("v1", "nodes", "{metadata: {name: $ID}}", "{spec: {unschedulable: true}}"),
    sample("v1", "persistentvolumeclaims", "
        metadata: {name: $ID}
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}", SETTLED),
    sample("v1", "persistentvolumes", "
        metadata: {name: $ID}
        spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], nfs: {server: a, path: /b}}", "{spec: {mountOptions: [ro]}}"),
    sample("v1", "pods", "{metadata: {name: $ID}, spec: {containers: [{name: a, image: a}]}}", "{spec: {activeDeadlineSeconds: 9}}"),
    sample("v1", "podtemplates", "{metadata: {name: $ID}, template: {spec: {containers: [{name: a, image: a}]}}}", "{template: {spec: {restartPolicy: Never}}}"),
    sample("v1", "replicationcontrollers", "
        metadata: {name: $ID}
        spec:
          selector: {a: b}
          template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}", "{spec: {replicas: 2}}"),
    sample("v1", "resourcequotas", "{metadata: {name: $ID}, spec: {hard: {pods: '100'}}}", "{spec: {hard: {pods: '101'}}}"),
    sample("v1", "secrets", "{metadata: {name: $ID}, data: {a: Yg==}}", "{data: {a: Yw==}}"),
    sample("v1", "serviceaccounts", "{metadata: {name: $ID}}", "{automountServiceAccountToken: false}"),
    sample("v1", "services", "{metadata: {name: $ID}, spec: {ports: [{port: 80}]}}", "{spec: {selector: {a: b}}}"),
    sample("apiregistration.k8s.io/v1", "apiservices", "
        metadata: {name: v1.$ID.behind.example.com}
        spec:
          group: $ID.behind.example.com
          version: v1
          groupPriorityMinimum: 1000
          versionPriority: 10", "{spec: {versionPriority: 11}}"),
    sample("apps/v1", "controllerrevisions", "{metadata: {name: $ID}, revision: 1, data: {a: b}}", "{revision: 2}"),
    sample("apps/v1", "daemonsets", "
        metadata: {name: $ID}
        spec:
          selector: {matchLabels: {a: b}}
          template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}", "{spec: {minReadySeconds: 1}}"),
    sample("apps/v1", "deployments", "
        metadata: {name: $ID}
        spec:
          selector: {matchLabels: {a: b}}
          template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}", "{spec: {replicas: 2}}"),
    sample("apps/v1", "replicasets", "
        metadata: {name: $ID}
        spec:
          selector: {matchLabels: {a: b}}
          template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}", "{spec: {replicas: 2}}"),
    sample("apps/v1", "statefulsets", "
        metadata: {name: $ID}
        spec:
          serviceName: a
          selector: {matchLabels: {a: b}}
          template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}", "{spec: {replicas: 2}}"),
    sample("events.k8s.io/v1", "events", "
        metadata: {name: events-$ID}
        eventTime: '2026-01-02T03:04:05.000006Z'
        reportingController: example.com/a
        reportingInstance: a
        regarding: {kind: Pod, name: a, namespace: $NS}
        action: Test
        reason: Tested
        type: Normal", "{series: {count: 2, lastObservedTime: '2026-01-02T03:04:06.000007Z'}}"),
    sample("autoscaling/v2", "horizontalpodautoscalers", "
        metadata: {name: v2-$ID}
        spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}}", "{spec: {maxReplicas: 3}}"),
    sample("autoscaling/v1", "horizontalpodautoscalers", "
        metadata: {name: v1-$ID}
        spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}}", "{spec: {maxReplicas: 3}}"),
    sample("batch/v1", "cronjobs", "
        metadata: {name: $ID}
        spec:
          schedule: '0 0 1 1 *'
          jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}}", "{spec: {suspend: true}}"),
    sample("batch/v1", "jobs", "
        metadata: {name: $ID}
        spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}", "{spec: {parallelism: 2}}"),
    sample("certificates.k8s.io/v1", "certificatesigningrequests", "
        metadata: {name: $ID}
        spec: {request: $CSR, signerName: example.com/a, usages: [client auth]}", SETTLED),
    sample("networking.k8s.io/v1", "ingressclasses", "{metadata: {name: $ID}, spec: {controller: example.com/a}}", SETTLED),
    sample("networking.k8s.io/v1", "ingresses", "
        metadata: {name: $ID}
        spec: {defaultBackend: {service: {name: a, port: {number: 80}}}}", "{spec: {ingressClassName: b}}"),
    sample("networking.k8s.io/v1", "ipaddresses", "
        metadata: {name: 10.200.0.$N}
        spec: {parentRef: {resource: services, namespace: $NS, name: a}}", SETTLED),
    sample("networking.k8s.io/v1", "networkpolicies", "{metadata: {name: $ID}, spec: {podSelector: {}}}", "{spec: {podSelector: {matchLabels: {a: b}}}}"),
    sample("networking.k8s.io/v1", "servicecidrs", "{metadata: {name: $ID}, spec: {cidrs: [10.20$N.0.0/16]}}", SETTLED),
    sample("policy/v1", "poddisruptionbudgets", "
        metadata: {name: $ID}
        spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}", "{spec: {minAvailable: 2}}"),
    sample("rbac.authorization.k8s.io/v1", "clusterrolebindings", "
        metadata: {name: $ID}
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: absent}", "{subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: a}]}"),
    sample("rbac.authorization.k8s.io/v1", "clusterroles", "
        metadata: {name: $ID}
        rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]", "{rules: [{apiGroups: [''], resources: [pods], verbs: [list]}]}"),
    sample("rbac.authorization.k8s.io/v1", "rolebindings", "
        metadata: {name: $ID}
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: absent}", "{subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: a}]}"),
    sample("rbac.authorization.k8s.io/v1", "roles", "
        metadata: {name: $ID}
        rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]", "{rules: [{apiGroups: [''], resources: [pods], verbs: [list]}]}"),
    sample("storage.k8s.io/v1", "csidrivers", "{metadata: {name: $ID}, spec: {}}", "{spec: {requiresRepublish: true}}"),
    sample("storage.k8s.io/v1", "csinodes", "{metadata: {name: $ID}, spec: {drivers: []}}", "{spec: {drivers: [{name: example.com, nodeID: a}]}}"),
    sample("storage.k8s.io/v1", "csistoragecapacities", "{metadata: {name: $ID}, storageClassName: a}", "{capacity: 1Gi}"),
    sample("storage.k8s.io/v1", "storageclasses", "{metadata: {name: $ID}, provisioner: example.com/a}", "{allowVolumeExpansion: true}"),
    sample("storage.k8s.io/v1", "volumeattachments", "
        metadata: {name: $ID}
        spec: {attacher: example.com, nodeName: a, source: {persistentVolumeName: a}}", SETTLED),
    sample("storage.k8s.io/v1", "volumeattributesclasses", "
        {metadata: {name: $ID}, driverName: example.com, parameters: {a: b}}", SETTLED),
    sample("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", "
        metadata: {name: $ID.example.com}
        spec:
          reinvocationPolicy: Never
          matchConstraints:
            resourceRules: [{apiGroups: [none.example.com], apiVersions: [v1], resources: [none], operations: [CREATE]}]
          mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{}]'}}]", "{spec: {failurePolicy: Ignore}}"),
    sample("admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings", "
        {metadata: {name: $ID.example.com}, spec: {policyName: absent.example.com}}", "{spec: {policyName: other.example.com}}"),
    sample("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "{metadata: {name: $ID.example.com}}", SETTLED),
    sample("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "
        metadata: {name: $ID.example.com}
        spec:
          matchConstraints:
            resourceRules: [{apiGroups: [none.example.com], apiVersions: [v1], resources: [none], operations: [CREATE]}]
          validations: [{expression: 'true'}]", "{spec: {failurePolicy: Ignore}}"),
    sample("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", "
        {metadata: {name: $ID.example.com}, spec: {policyName: absent.example.com, validationActions: [Deny]}}", "{spec: {validationActions: [Audit]}}"),
    sample("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "{metadata: {name: $ID.example.com}}", SETTLED),
    sample("apiextensions.k8s.io/v1", "customresourcedefinitions", "
        metadata: {name: things.$ID.example.com}
        spec:
          group: $ID.example.com
          scope: Cluster
          names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}
          versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]", "{spec: {names: {shortNames: [t$ID]}}}"),
    sample("scheduling.k8s.io/v1", "priorityclasses", "{metadata: {name: $ID}, value: 10$N}", "{description: changed}"),
    sample("coordination.k8s.io/v1", "leases", "{metadata: {name: $ID}, spec: {holderIdentity: a}}", "{spec: {holderIdentity: b}}"),
    sample("node.k8s.io/v1", "runtimeclasses", "{metadata: {name: $ID}, handler: a}", SETTLED),
    sample("discovery.k8s.io/v1", "endpointslices", "
        metadata: {name: $ID}
        addressType: IPv4
        endpoints: [{addresses: [10.9.8.7]}]
        ports: [{port: 80}]", "{endpoints: [{addresses: [10.9.8.6]}]}"),
    sample("resource.k8s.io/v1", "deviceclasses", "{metadata: {name: $ID}, spec: {}}", "{spec: {selectors: [{cel: {expression: 'true'}}]}}"),
    sample("resource.k8s.io/v1", "resourceclaims", "
        metadata: {name: $ID}
        spec: {devices: {requests: [{name: a, exactly: {deviceClassName: a}}]}}", SETTLED),
    sample("resource.k8s.io/v1", "resourceclaimtemplates", "
        metadata: {name: $ID}
        spec: {spec: {devices: {requests: [{name: a, exactly: {deviceClassName: a}}]}}}", SETTLED),
    sample("resource.k8s.io/v1", "resourceslices", "
        metadata: {name: $ID}
        spec:
          driver: example.com
          nodeName: a
          pool: {name: $ID, generation: 1, resourceSliceCount: 1}
          devices: [{name: a}]", "{spec: {pool: {generation: 2}}}"),
    sample("flowcontrol.apiserver.k8s.io/v1", "flowschemas", "
        metadata: {name: $ID}
        spec: {priorityLevelConfiguration: {name: absent}, matchingPrecedence: 9000}", "{spec: {matchingPrecedence: 9001}}"),
    sample("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", "
        metadata: {name: $ID}
        spec: {type: Limited, limited: {limitResponse: {type: Reject}}}", "{spec: {limited: {nominalConcurrencyShares: 31}}}"),
    sample("parity.example.com/v1", "widgets", "{metadata: {name: $ID}, spec: {size: S}}", "{spec: {size: L}}"),
];

/// Every resource that is answered and not stored, with what it may be asked.
#[rustfmt::skip]
pub(crate) const ANSWERED: &[Sample] = &[
    sample("v1", "bindings", "{metadata: {name: bound}, target: {kind: Node, name: a}}", SETTLED),
    sample("v1", "componentstatuses", "{}", SETTLED),
    sample("authentication.k8s.io/v1", "selfsubjectreviews", "{}", SETTLED),
    sample("authentication.k8s.io/v1", "tokenreviews", "{spec: {token: a}}", SETTLED),
    sample("authorization.k8s.io/v1", "localsubjectaccessreviews", "
        {spec: {user: a, resourceAttributes: {namespace: $NS, verb: get, resource: pods}}}", SETTLED),
    sample("authorization.k8s.io/v1", "selfsubjectaccessreviews", "
        {spec: {resourceAttributes: {namespace: $NS, verb: get, resource: pods}}}", SETTLED),
    sample("authorization.k8s.io/v1", "selfsubjectrulesreviews", "{spec: {namespace: $NS}}", SETTLED),
    sample("authorization.k8s.io/v1", "subjectaccessreviews", "
        {spec: {user: a, resourceAttributes: {verb: get, resource: pods}}}", SETTLED),
];

/// The definition of the custom resource among the rows.
pub(crate) const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.parity.example.com}
spec:
  group: parity.example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: string}, replicas: {type: integer}}}
          status: {type: object, properties: {done: {type: boolean}, replicas: {type: integer}}}
";

const fn sample(
    api_version: &'static str,
    resource: &'static str,
    object: &'static str,
    change: &'static str,
) -> Sample {
    Sample { api_version, resource, object, change }
}

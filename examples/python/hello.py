"""Talks to a cluster with the `kubernetes` package of PyPI: creates, watches, reads logs, runs a command, cleans up.

    pip install kubernetes
    KUBECONFIG=... python hello.py
"""

from kubernetes import client, config, dynamic, watch
from kubernetes.stream import stream

NAMESPACE = "default"
LABELS = {"app": "hello-python"}


def pod() -> client.V1Pod:
    """A pod that says something, and waits."""
    container = client.V1Container(
        name="main",
        image="xebec.local/busybox:demo",
        image_pull_policy="IfNotPresent",
        command=["sh", "-c", "echo hello from Python; trap exit TERM; sleep 1000 & wait"],
        resources=client.V1ResourceRequirements(requests={"cpu": "10m", "memory": "8Mi"}),
    )
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name="hello-python", labels=LABELS),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=1),
    )


def main() -> None:
    """Each step prints what it saw; anything unexpected is an exception."""
    config.load_kube_config()
    core = client.CoreV1Api()
    print("server", client.VersionApi().get_code().git_version)

    created = core.create_namespaced_pod(NAMESPACE, pod())
    print("created", created.metadata.name)
    follow = watch.Watch()
    for event in follow.stream(
        core.list_namespaced_pod,
        NAMESPACE,
        label_selector="app=hello-python",
        resource_version=created.metadata.resource_version,
        timeout_seconds=60,
    ):
        phase = event["object"].status.phase
        print("watched", event["type"], phase)
        if phase == "Running":
            follow.stop()
    if phase != "Running":
        raise SystemExit(f"the pod is {phase}")

    print("logged", core.read_namespaced_pod_log("hello-python", NAMESPACE).strip())
    said = stream(
        core.connect_get_namespaced_pod_exec,
        "hello-python",
        NAMESPACE,
        command=["echo", "run inside"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    print("executed", said.strip())

    core.patch_namespaced_pod("hello-python", NAMESPACE, {"metadata": {"annotations": {"note": "patched"}}})
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hello-python"}, "data": {"a": "b"}}
    maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="hello")
    print("applied", maps.get(name="hello-python", namespace=NAMESPACE).data.a)
    maps.delete(name="hello-python", namespace=NAMESPACE)

    try:
        core.read_namespaced_pod("absent", NAMESPACE)
    except client.ApiException as error:
        print("refused", error.status, error.reason)
    core.delete_namespaced_pod("hello-python", NAMESPACE)
    print("done")


if __name__ == "__main__":
    main()

// Istio's own injector, without a cluster: the ConfigMap that its Helm chart makes, a mesh configuration or "-", and
// workloads on standard input; what becomes of them on standard output.
package main

import (
	"fmt"
	"os"

	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube/inject"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(path string) []byte {
	content, err := os.ReadFile(path)
	check(err)
	return content
}

func main() {
	var configMap corev1.ConfigMap
	check(yaml.Unmarshal(read(os.Args[1]), &configMap))
	config, err := inject.UnmarshalConfig([]byte(configMap.Data["config"]))
	check(err)
	values, err := inject.NewValuesConfig(configMap.Data["values"])
	check(err)
	meshConfig := mesh.DefaultMeshConfig()
	if os.Args[2] != "-" {
		meshConfig, err = mesh.ApplyMeshConfigDefaults(string(read(os.Args[2])))
		check(err)
	}
	warn := func(words string) { fmt.Fprintln(os.Stderr, words) }
	check(inject.IntoResourceFile(nil, config.Templates, values, "default", meshConfig, os.Stdin, os.Stdout, warn))
}

// Command vcsim is the vSphere that the lab and the tests run against.
//
// It is govmomi's simulator with a front desk: every request passes through front.go. That answers
// itself where the simulator has gaps (leases, uploads, sessions, guest power) or is too lenient, and
// passes on the rest. It is as strict as vCenter and ESXi are known to be.
package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/ioutil"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
)

// settings are the command line of one simulator.
type settings struct {
	listen, cert, key, user, passwordFile string
	uploads, state, model                 string
	leaseTimeoutSeconds                   int
	sessionTimeoutSeconds                 int
	datastoreCapacityBytes                int64
	verbose                               bool

	datacenters, clusters, clusterHosts, hosts int
	pools, datastores, portgroups, machines    int
}

func parseSettings() settings {
	var s settings
	flag.StringVar(&s.listen, "listen", "127.0.0.1:8443", "address to serve HTTPS on")
	flag.StringVar(&s.cert, "cert", "", "PEM file with the certificate")
	flag.StringVar(&s.key, "key", "", "PEM file with its private key")
	flag.StringVar(&s.user, "user", "administrator@vsphere.local", "the only user")
	flag.StringVar(&s.passwordFile, "password-file", "", "file with that user's password")
	flag.StringVar(&s.uploads, "uploads", "", "folder that keeps uploaded disks, as <vm>/disk-<n>.vmdk")
	flag.StringVar(&s.state, "state", "", "file to write address and thumbprint to when ready")
	flag.StringVar(&s.model, "model", "vpx", "vpx (vCenter) or esx (one stand-alone host)")
	flag.IntVar(&s.leaseTimeoutSeconds, "lease-timeout", 300, "seconds a lease lives without Progress")
	flag.IntVar(&s.sessionTimeoutSeconds, "session-timeout", 1800, "seconds a session lives unused")
	flag.Int64Var(&s.datastoreCapacityBytes, "datastore-capacity", 1<<40, "bytes of each datastore")
	flag.BoolVar(&s.verbose, "verbose", false, "log what the simulator does to stderr")
	flag.IntVar(&s.datacenters, "datacenters", 1, "datacenters (vpx)")
	flag.IntVar(&s.clusters, "clusters", 1, "clusters per datacenter (vpx)")
	flag.IntVar(&s.clusterHosts, "cluster-hosts", 3, "hosts per cluster (vpx)")
	flag.IntVar(&s.hosts, "hosts", 1, "stand-alone hosts per datacenter (vpx)")
	flag.IntVar(&s.pools, "pools", 0, "resource pools per cluster beside its root pool (vpx)")
	flag.IntVar(&s.datastores, "datastores", 1, "datastores per datacenter")
	flag.IntVar(&s.portgroups, "portgroups", 1, "distributed port groups per datacenter (vpx)")
	flag.IntVar(&s.machines, "machines", 0, "virtual machines per resource pool, to begin with")
	flag.Parse()
	return s
}

func (s settings) buildModel() (*simulator.Model, error) {
	var model *simulator.Model
	switch s.model {
	case "vpx":
		model = simulator.VPX()
		model.Datacenter, model.Cluster, model.ClusterHost = s.datacenters, s.clusters, s.clusterHosts
		model.Host, model.Pool, model.Portgroup = s.hosts, s.pools, s.portgroups
	case "esx":
		model = simulator.ESX()
	default:
		return nil, fmt.Errorf("-model is %q, must be vpx or esx", s.model)
	}
	model.Datastore, model.Machine, model.Autostart = s.datastores, s.machines, false
	about := &model.ServiceContent.About
	about.Version, about.ApiVersion = productVersion, apiVersion
	about.FullName = about.Name + " " + productVersion + " (vcsim)"
	return model, nil
}

// staleUploads are folders named like the machines of an earlier simulator, which this one does not know.
var staleUploads = regexp.MustCompile(`^vm-\d+$`)

// prepareUploads makes the uploads folder, drops what an earlier simulator left in it, and has the
// simulated datastores live below it rather than in the system's temporary folder.
func prepareUploads(folder string) error {
	datastores := filepath.Join(folder, ".datastores")
	entries, _ := ioutil.ReadDir(folder)
	for _, entry := range entries {
		if staleUploads.MatchString(entry.Name()) {
			_ = os.RemoveAll(filepath.Join(folder, entry.Name()))
		}
	}
	_ = os.RemoveAll(datastores)
	if err := os.MkdirAll(datastores, 0700); err != nil {
		return err
	}
	return os.Setenv("TMPDIR", datastores)
}

func thumbprint(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(parts, ":")
}

func writeState(path, address, model string, certificate []byte) error {
	one, two := sha1.Sum(certificate), sha256.Sum256(certificate)
	text, err := json.Marshal(map[string]interface{}{
		"pid": os.Getpid(), "address": address, "url": "https://" + address + "/sdk", "model": model,
		"thumbprint_sha1": thumbprint(one[:]), "thumbprint_sha256": thumbprint(two[:]),
	})
	if err != nil {
		return err
	}
	if err := ioutil.WriteFile(path+".new", append(text, '\n'), 0600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func run(s settings) error {
	if s.passwordFile == "" || s.cert == "" || s.key == "" || s.uploads == "" {
		return fmt.Errorf("-cert, -key, -password-file and -uploads are needed")
	}
	password, err := ioutil.ReadFile(s.passwordFile)
	if err != nil {
		return err
	}
	if !s.verbose {
		log.SetOutput(ioutil.Discard)
	}
	certificate, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		return err
	}
	if err := prepareUploads(s.uploads); err != nil {
		return err
	}
	model, err := s.buildModel()
	if err != nil {
		return err
	}
	if err := model.Create(); err != nil {
		return err
	}
	defer model.Remove()

	service := model.Service
	service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(s.user, strings.TrimSpace(string(password)))}
	// Only its routes are used: its own server, which bypasses the front desk, is closed.
	service.NewServer().Close()

	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	digest := sha1.Sum(certificate.Certificate[0])
	tidyInventory()
	desk := newFront(service, s, address, thumbprint(digest[:]))
	installPaging(desk)
	server := &http.Server{
		Handler:           desk,
		ConnState:         desk.follow,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(log.Writer(), "http ", log.LstdFlags),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only, as ESXi
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		_ = server.Close()
	}()
	if s.state != "" {
		if err := writeState(s.state, address, s.model, certificate.Certificate[0]); err != nil {
			return err
		}
	}
	fmt.Printf("vcsim ready at https://%s/sdk\n", address)
	if err := server.ServeTLS(listener, "", ""); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func main() {
	if err := run(parseSettings()); err != nil {
		fmt.Fprintln(os.Stderr, "vcsim:", err)
		os.Exit(1)
	}
}

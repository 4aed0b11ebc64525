package main

// Faults that tests inject: POST /lab/faults sets them, DELETE resets, GET shows.

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// question is what a machine asks at its next power-on, until AnswerVM.
type question struct {
	ID      string            `json:"id"`
	Text    string            `json:"text"`
	Choices map[string]string `json:"choices"` // key → label
	Cancel  string            `json:"cancel"`  // the key that makes the power-on fail
}

// faultSettings are the faults from now on. A field missing from a POST keeps its value.
type faultSettings struct {
	CutUploadAfterBytes int64     `json:"cut_upload_after_bytes"` // once: closes the connection
	LeaseLostAfterBytes int64     `json:"lease_lost_after_bytes"` // once: the lease times out
	UploadStatus        int       `json:"upload_status"`          // once: answered instead of taking an upload
	WrongDigest         bool      `json:"wrong_digest"`           // manifests name another digest
	WrongThumbprint     bool      `json:"wrong_thumbprint"`       // leases name another certificate
	RefuseDatastore     string    `json:"refuse_datastore"`       // its name: imports to it are refused
	FullDatastore       string    `json:"full_datastore"`         // its name: it has no free space
	VvolDatastore       string    `json:"vvol_datastore"`         // its name: it is a vVol, whose disks have whole MiB
	DelayMs             int       `json:"delay_ms"`               // before each call is answered
	FailCall            string    `json:"fail_call"`              // SOAP method answered with a HostCommunication fault
	MissingPrivileges   []string  `json:"missing_privileges"`     // privileges the user lacks
	NotAttempted        bool      `json:"not_attempted"`          // DRS does not even try to power on
	Question            *question `json:"question"`               // once: asked at the next power-on

	Answers    []answerRule `json:"answers"`    // what calls are answered with instead, see answers.go
	Unreadable []string     `json:"unreadable"` // ids of objects that the user may see, but not read

	StaticPorts map[string]int `json:"static_ports"` // free ports of port groups, by name, whose number does not grow

	DropIdle       bool `json:"drop_idle,omitempty"`       // act: closes all connections that wait for a request
	ExpireSessions bool `json:"expire_sessions,omitempty"` // act: ends all sessions now
	ExpireLeases   bool `json:"expire_leases,omitempty"`   // act: all leases time out now
	RestartMs      int  `json:"restart_ms,omitempty"`      // act: answers nobody for that long; sessions and leases end
}

type faultDoors struct {
	mu  sync.Mutex
	set faultSettings
}

func (f *faultDoors) now() faultSettings {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set
}

// take passes the settings to the caller, who resets those that happen once.
func (f *faultDoors) take(use func(*faultSettings)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	use(&f.set)
}

func (f *faultDoors) delay() {
	if ms := f.now().DelayMs; ms > 0 {
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
}

// isLocal rejects requests that do not come from this computer.
func isLocal(w http.ResponseWriter, r *http.Request) bool {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		http.Error(w, "only from this computer", http.StatusForbidden)
		return false
	}
	return true
}

// serveSink writes a PUT to a file and deletes it: uploads are compared with that.
func (d *front) serveSink(w http.ResponseWriter, r *http.Request) {
	if !isLocal(w, r) || r.Method != http.MethodPut {
		return
	}
	file, err := os.Create(filepath.Join(d.settings.uploads, ".sink"))
	if err == nil {
		defer os.Remove(file.Name())
		defer file.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{file}, r.Body, make([]byte, bufferBytes))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (d *front) serveFaults(w http.ResponseWriter, r *http.Request) {
	if !isLocal(w, r) {
		return
	}
	var dropIdle, expireSessions, expireLeases bool
	restartMs := 0
	switch r.Method {
	case http.MethodGet:
	case http.MethodDelete:
		d.faults.take(func(s *faultSettings) { *s = faultSettings{} })
		d.upAt.Store(time.Time{})
	case http.MethodPost:
		var problem error
		d.faults.take(func(s *faultSettings) {
			changed := *s
			changed.Answers = nil // the decoder would mix old rules with new ones
			decoder := json.NewDecoder(r.Body)
			decoder.DisallowUnknownFields()
			if problem = decoder.Decode(&changed); problem == nil {
				dropIdle, expireSessions, expireLeases = changed.DropIdle, changed.ExpireSessions, changed.ExpireLeases
				changed.DropIdle, changed.ExpireSessions, changed.ExpireLeases = false, false, false
				restartMs, changed.RestartMs = changed.RestartMs, 0
				if changed.Answers == nil {
					changed.Answers = s.Answers
				}
				*s = changed
			}
		})
		if problem != nil {
			http.Error(w, problem.Error(), http.StatusBadRequest)
			return
		}
	default:
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	}
	if dropIdle {
		d.dropIdle()
	}
	if expireSessions {
		d.dropSessions(true)
	}
	if restartMs > 0 {
		d.restart(restartMs)
	}
	if expireLeases {
		d.leases.expireAll()
	}
	for _, store := range d.datastores() {
		d.publish(store)
	}
	d.publishPorts()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(d.faults.now())
}

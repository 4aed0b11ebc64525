package main

// What clients have asked for, and under which names: GET /lab/served.

import (
	"encoding/json"
	"net/http"
	"sync"
)

// servedCalls counts. Times of the calls tell how many there were in any one second.
type servedCalls struct {
	mu         sync.Mutex
	Calls      map[string]int `json:"calls"`       // by SOAP method
	Bytes      int64          `json:"bytes"`       // of the answers
	SignIns    int            `json:"sign_ins"`    // since the start
	Refused    int            `json:"refused"`     // sign-ins with a wrong user or password
	UserAgents map[string]int `json:"user_agents"` // of the sign-ins
	Operations map[string]int `json:"operations"`  // their IDs
}

func newServedCalls() *servedCalls {
	return &servedCalls{Calls: map[string]int{}, UserAgents: map[string]int{}, Operations: map[string]int{}}
}

func (s *servedCalls) note(one *call, agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Calls[one.Name]++
	if one.Header.ID != "" {
		s.Operations[one.Header.ID]++
	}
	if one.Name == "Login" {
		s.UserAgents[agent]++
	}
}

func (s *servedCalls) noteSignIn(succeeded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if succeeded {
		s.SignIns++
	} else {
		s.Refused++
	}
}

// answerWriter counts what is answered, and knows whether it is answered in the account's own language.
type answerWriter struct {
	http.ResponseWriter
	served    *servedCalls
	isForeign bool
}

func (w *answerWriter) Write(data []byte) (int, error) {
	w.served.mu.Lock()
	w.served.Bytes += int64(len(data))
	w.served.mu.Unlock()
	return w.ResponseWriter.Write(data)
}

func (d *front) serveServed(w http.ResponseWriter, r *http.Request) {
	if !isLocal(w, r) {
		return
	}
	d.served.mu.Lock()
	defer d.served.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		*servedCalls
		Sessions int `json:"sessions"` // now
	}{d.served, d.sessions.count()})
}

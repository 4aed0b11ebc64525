package main

// Who is signed in. The simulator allows many calls without a session, and never ends one itself.

import (
	"strings"
	"sync"
	"time"
)

type session struct {
	lastActive time.Time
	inFlight   int
	locale     string // asked for at sign-in; faults are in the account's own language otherwise
}

// sessions maps the cookie of each live session to when it was last used.
type sessions struct {
	mu   sync.Mutex
	live map[string]*session
	idle time.Duration
}

func newSessions(idle time.Duration) *sessions {
	return &sessions{live: map[string]*session{}, idle: idle}
}

func (s *sessions) begin(cookie, locale string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[cookie] = &session{lastActive: time.Now(), locale: locale}
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, cookie)
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// isForeign tells whether a session's faults are not in English.
func (s *sessions) isForeign(cookie string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, found := s.live[cookie]
	return found && !strings.HasPrefix(one.locale, "en")
}

// enter tells whether the session exists, and keeps it alive until leave.
func (s *sessions) enter(cookie string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, found := s.live[cookie]
	if !found || (one.inFlight == 0 && time.Since(one.lastActive) > s.idle) {
		return false
	}
	one.inFlight++
	one.lastActive = time.Now()
	return true
}

func (s *sessions) leave(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one, found := s.live[cookie]; found {
		one.inFlight--
		one.lastActive = time.Now()
	}
}

// takeExpired removes and returns the sessions that have been idle too long, or all of them.
func (s *sessions) takeExpired(everyone bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []string
	for cookie, one := range s.live {
		if everyone || (one.inFlight == 0 && time.Since(one.lastActive) > s.idle) {
			gone = append(gone, cookie)
			delete(s.live, cookie)
		}
	}
	return gone
}

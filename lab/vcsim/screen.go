package main

// The screen of a virtual machine, as /screen?id=<moid> shows it. What boots the machine takes the
// picture: it is asked by the file screen.wanted beside the machine's disks, and answers by removing
// that once screen.png is there.

import (
	"io/ioutil"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const screenSeconds = 5

var plainMoid = regexp.MustCompile(`^[0-9A-Za-z-]+$`)

func (d *front) serveScreen(w http.ResponseWriter, r *http.Request) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil || !d.sessions.enter(cookie.Value) {
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	defer d.sessions.leave(cookie.Value)
	moid := r.URL.Query().Get("id")
	if !plainMoid.MatchString(moid) {
		http.NotFound(w, r)
		return
	}
	folder := filepath.Join(d.settings.uploads, moid)
	wanted := filepath.Join(folder, "screen.wanted")
	if err := ioutil.WriteFile(wanted, nil, 0600); err != nil {
		http.NotFound(w, r)
		return
	}
	for tries := 0; tries < screenSeconds*20; tries++ {
		if _, err := os.Stat(wanted); os.IsNotExist(err) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = os.Remove(wanted)
	picture, err := ioutil.ReadFile(filepath.Join(folder, "screen.png"))
	if err != nil {
		http.Error(w, "the machine shows nothing", http.StatusServiceUnavailable)
		return
	}
	_ = os.Remove(filepath.Join(folder, "screen.png"))
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(picture)
}

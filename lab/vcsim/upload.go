package main

// The NFC side of a lease: takes one POST per disk, checks it while it arrives, and stores it.

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/ioutil"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

const (
	diskMediaType = "application/x-vnd.vmware-streamVmdk"
	bufferBytes   = 1 << 17
	drainBytes    = 64 << 20
)

func (d *front) serveUpload(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/ha-nfc/"), "/nfc/"), "/")
	if len(parts) != 2 {
		http.NotFound(w, r)
		return
	}
	l := d.leases.find(parts[0])
	if l == nil {
		http.Error(w, "no such lease", http.StatusNotFound)
		return
	}
	var target *leaseDisk
	for _, disk := range l.disks {
		if parts[1] == fmt.Sprintf("disk-%d.vmdk", disk.number) {
			target = disk
		}
	}
	if target == nil {
		http.Error(w, "no such disk in the lease", http.StatusNotFound)
		return
	}
	if status, text := refusal(r); status != 0 {
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		w.Header().Set("Connection", "close")
		http.Error(w, text, status)
		return
	}
	var status int
	d.faults.take(func(s *faultSettings) { status, s.UploadStatus = s.UploadStatus, 0 })
	if status != 0 {
		w.Header().Set("Connection", "close")
		http.Error(w, "a fault asked for by the test", status)
		return
	}
	if status, text := l.begin(target); status != 0 {
		w.Header().Set("Connection", "close")
		http.Error(w, text, status)
		return
	}
	u := &upload{desk: d, lease: l, disk: target, judge: newJudge(), digest: newDigest(target.digestKind)}
	problem := u.receive(r)
	u.settle(w, r, problem)
}

// refusal returns what is wrong with a request before any byte is read, or 0.
func refusal(r *http.Request) (int, string) {
	switch {
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, "disks are uploaded with POST"
	case r.Header.Get("Content-Type") != diskMediaType:
		return http.StatusUnsupportedMediaType, "Content-Type must be " + diskMediaType
	case r.ContentLength < 0:
		return http.StatusLengthRequired, "Content-Length is required"
	case r.ContentLength == 0:
		return http.StatusBadRequest, "the stream is empty"
	}
	return 0, ""
}

// begin claims a disk for one upload.
func (l *lease) begin(disk *leaseDisk) (int, string) {
	l.Lock()
	defer l.Unlock()
	switch {
	case l.State != types.HttpNfcLeaseStateReady:
		return http.StatusNotFound, fmt.Sprintf("the lease is in state %s", l.State)
	case disk.receiving || disk.done:
		return http.StatusConflict, "this disk has an upload already"
	}
	disk.receiving = true
	disk.path = l.desk.uploadPath(l.Info.Entity, disk.number)
	return 0, ""
}

func newDigest(kind string) hash.Hash {
	if kind == "sha256" {
		return sha256.New()
	}
	return sha1.New()
}

// problem is why an upload ended: what the client is told, and the fault of the lease.
type problem struct {
	status int // 0: the connection is just closed
	text   string
	fault  types.BaseMethodFault
}

type upload struct {
	desk     *front
	lease    *lease
	disk     *leaseDisk
	judge    *judge
	digest   hash.Hash
	received int64
}

// receive reads while a second goroutine checks, digests and writes the previous buffer.
func (u *upload) receive(r *http.Request) *problem {
	if err := os.MkdirAll(filepath.Dir(u.disk.path), 0700); err != nil {
		return &problem{http.StatusInternalServerError, err.Error(), &types.FileFault{File: u.disk.path}}
	}
	file, err := os.Create(u.disk.path + ".part")
	if err != nil {
		return &problem{http.StatusInternalServerError, err.Error(), &types.FileFault{File: u.disk.path}}
	}
	defer file.Close()

	full, free := make(chan []byte, 2), make(chan []byte, 3)
	for i := 0; i < 3; i++ {
		free <- make([]byte, bufferBytes)
	}
	worked := make(chan *problem, 1)
	go func() {
		defer func() {
			if cause := recover(); cause != nil {
				worked <- &problem{http.StatusBadRequest, fmt.Sprint(cause), &types.FileFault{File: u.disk.path}}
			}
		}()
		worked <- u.work(file, full, free)
	}()
	stopped := u.read(r, full, free, worked)
	close(full)
	if found := <-worked; found != nil {
		return found
	}
	return stopped
}

// read fills buffers until the body ends, the lease does, or the worker has found something.
func (u *upload) read(r *http.Request, full chan<- []byte, free <-chan []byte, worked chan *problem) *problem {
	for remaining := r.ContentLength; remaining > 0; {
		var buffer []byte
		select {
		case buffer = <-free:
		case found := <-worked:
			worked <- found
			return nil
		case <-u.lease.cut:
			return &problem{http.StatusServiceUnavailable, "the lease has ended", nil}
		}
		buffer = buffer[:cap(buffer)]
		if remaining < int64(len(buffer)) {
			buffer = buffer[:remaining]
		}
		count, err := io.ReadFull(r.Body, buffer)
		remaining -= int64(count)
		u.received += int64(count)
		if err != nil {
			return &problem{0, "the upload was cut", &types.FileFault{File: u.disk.path}}
		}
		if found := u.injected(); found != nil {
			return found
		}
		full <- buffer[:count]
	}
	return nil
}

func (u *upload) work(file *os.File, full <-chan []byte, free chan<- []byte) *problem {
	var store = u.disk.datastore
	for buffer := range full {
		if _, err := u.judge.Write(buffer); err != nil {
			return &problem{http.StatusBadRequest, err.Error(), &types.PlatformConfigFault{Text: err.Error()}}
		}
		if !u.disk.thick && !u.desk.charge(store, u.lease.Info.Entity, u.disk.number, u.judge.populated) {
			return &problem{http.StatusInternalServerError, "no space left on the datastore",
				&types.NoDiskSpace{Datastore: u.desk.storeName(store)}}
		}
		_, _ = u.digest.Write(buffer)
		if _, err := file.Write(buffer); err != nil {
			return &problem{http.StatusInternalServerError, err.Error(), &types.FileFault{File: u.disk.path}}
		}
		free <- buffer
	}
	return nil
}

// injected is the fault that a test has set for this moment.
func (u *upload) injected() (found *problem) {
	u.desk.faults.take(func(s *faultSettings) {
		switch {
		case s.CutUploadAfterBytes > 0 && u.received >= s.CutUploadAfterBytes:
			s.CutUploadAfterBytes = 0
			found = &problem{0, "the upload was cut", &types.FileFault{File: u.disk.path}}
		case s.LeaseLostAfterBytes > 0 && u.received >= s.LeaseLostAfterBytes:
			s.LeaseLostAfterBytes = 0
			found = &problem{http.StatusServiceUnavailable, "the lease timed out", &types.Timedout{}}
		}
	})
	return found
}

// settle books the upload, or fails the lease, and answers.
func (u *upload) settle(w http.ResponseWriter, r *http.Request, found *problem) {
	if found == nil {
		if err := u.judge.finish(); err != nil {
			found = &problem{http.StatusBadRequest, err.Error(), &types.PlatformConfigFault{Text: err.Error()}}
		}
	}
	l := u.lease
	l.Lock()
	u.disk.receiving = false
	if found == nil && l.State != types.HttpNfcLeaseStateReady {
		found = &problem{http.StatusServiceUnavailable, "the lease has ended", nil}
	}
	if found == nil {
		if err := os.Rename(u.disk.path+".part", u.disk.path); err != nil {
			found = &problem{http.StatusInternalServerError, err.Error(), &types.FileFault{File: u.disk.path}}
		}
	}
	if found != nil {
		if found.fault != nil {
			l.fail(found.text, found.fault)
		}
		_ = os.RemoveAll(filepath.Dir(u.disk.path))
		u.desk.discharge(l.Info.Entity) // again, for what was charged after the lease had ended
		l.Unlock()
		if found.status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Connection", "close")
		http.Error(w, found.text, found.status)
		// A client that is still sending could not read the answer.
		_, _ = io.CopyN(ioutil.Discard, r.Body, drainBytes)
		return
	}
	u.disk.done = true
	u.disk.digest = hex.EncodeToString(u.digest.Sum(nil))
	u.disk.sizeBytes, u.disk.capacity, u.disk.populated = u.received, u.judge.capacityBytes(), u.judge.populated
	l.Unlock()
	w.WriteHeader(http.StatusCreated)
}

package main

// Import leases: from ImportVApp to Complete, Abort or time-out, and what happens to the machine then.

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// leaseDisk is one disk to be uploaded.
type leaseDisk struct {
	number      int
	key         int32  // device key in the machine
	importKey   string // as in deviceUrl
	device      string // tail of both keys, ParaVirtualSCSIController0:0
	path        string // where the upload is stored
	receiving   bool
	done        bool
	digestKind  string // sha1 or sha256
	digest      string
	sizeBytes   int64
	capacity    int64
	populated   int64
	thick       bool
	datastore   types.ManagedObjectReference
	askedAmount int64 // capacity in the spec
}

// lease implements the managed object; the simulator finds its methods by name and locks it while they run.
type lease struct {
	mo.HttpNfcLease
	mu sync.Mutex

	desk   *front
	ticket string
	name   string // of the machine, as requested
	disks  []*leaseDisk
	heard  time.Time // the last Progress
	cut    chan struct{}
	task   *simulator.Task // the import, in the list of tasks while the lease is open
}

// Lock and Unlock make the simulator use the lease's own lock.
func (l *lease) Lock()   { l.mu.Lock() }
func (l *lease) Unlock() { l.mu.Unlock() }

type leaseTable struct {
	mu       sync.Mutex
	desk     *front
	byTicket map[string]*lease
}

func (t *leaseTable) open(pool types.ManagedObjectReference, name string) *lease {
	ticket := uuid.New().String()
	l := &lease{desk: t.desk, ticket: ticket, name: name, heard: time.Now(), cut: make(chan struct{})}
	l.Self = types.ManagedObjectReference{Type: "HttpNfcLease", Value: "session[" + ticket[:8] + "]" + uuid.New().String()}
	l.State = types.HttpNfcLeaseStateInitializing
	l.Mode = "pushOrGet"
	t.mu.Lock()
	if t.byTicket == nil {
		t.byTicket = map[string]*lease{}
	}
	t.byTicket[ticket] = l
	t.mu.Unlock()
	simulator.Map.Put(l)
	l.task = simulator.CreateTask(&pool, "importVApp", nil)
	l.taskState(types.TaskInfoStateRunning)
	return l
}

func (l *lease) taskState(state types.TaskInfoState) {
	simulator.Map.Update(l.task, []types.PropertyChange{{Name: "info.state", Val: state}})
}

func (t *leaseTable) find(ticket string) *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byTicket[ticket]
}

func (t *leaseTable) all() []*lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := make([]*lease, 0, len(t.byTicket))
	for _, l := range t.byTicket {
		found = append(found, l)
	}
	return found
}

func (t *leaseTable) forget(l *lease) {
	t.mu.Lock()
	delete(t.byTicket, l.ticket)
	t.mu.Unlock()
	simulator.Map.Remove(l.Self)
}

// holding returns the open lease on a machine, or nil.
func (t *leaseTable) holding(vm types.ManagedObjectReference) *lease {
	for _, l := range t.all() {
		l.Lock()
		held := l.Info != nil && l.Info.Entity == vm && l.State == types.HttpNfcLeaseStateReady
		l.Unlock()
		if held {
			return l
		}
	}
	return nil
}

// expire fails leases without Progress for too long, and forgets failed ones after a while.
func (t *leaseTable) expire(now time.Time) {
	limit := time.Duration(t.desk.settings.leaseTimeoutSeconds) * time.Second
	for _, l := range t.all() {
		l.Lock()
		silent := now.Sub(l.heard)
		if l.State == types.HttpNfcLeaseStateReady && silent > limit {
			l.fail("The lease timed out: no Progress arrived.", &types.Timedout{})
		}
		stale := l.State == types.HttpNfcLeaseStateError && silent > limit+10*time.Minute
		l.Unlock()
		if stale {
			t.forget(l)
		}
	}
}

func (t *leaseTable) expireAll() {
	for _, l := range t.all() {
		l.Lock()
		l.fail("The lease timed out.", &types.Timedout{})
		l.Unlock()
	}
}

// ready publishes the upload addresses. The caller holds the lock.
func (l *lease) ready(vm types.ManagedObjectReference) {
	host, path := l.desk.address, "/nfc/"
	if l.desk.settings.model == "esx" {
		host, path = "*", "/ha-nfc/"
	}
	info := &types.HttpNfcLeaseInfo{
		Lease: l.Self, Entity: vm, LeaseTimeout: int32(l.desk.settings.leaseTimeoutSeconds),
	}
	isDisk, thumbprint := true, l.desk.thumbprint
	if l.desk.faults.now().WrongThumbprint {
		thumbprint = "00:" + thumbprint[3:]
	}
	for _, disk := range l.disks {
		disk.importKey = "/" + l.name + "/" + disk.device
		info.TotalDiskCapacityInKB += disk.askedAmount / 1024
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key:           "/" + vm.Value + "/" + disk.device,
			ImportKey:     disk.importKey,
			Url:           fmt.Sprintf("https://%s%s%s/disk-%d.vmdk", host, path, l.ticket, disk.number),
			SslThumbprint: thumbprint,
			Disk:          &isDisk,
			TargetId:      fmt.Sprintf("disk-%d.vmdk", disk.number),
			DatastoreKey:  disk.datastore.Value,
		})
	}
	l.heard = time.Now()
	simulator.Map.Update(l, []types.PropertyChange{
		{Name: "info", Val: *info}, {Name: "initializeProgress", Val: int32(100)},
		{Name: "state", Val: types.HttpNfcLeaseStateReady},
	})
}

// fail ends the lease and removes everything it created. The caller holds the lock.
func (l *lease) fail(text string, cause types.BaseMethodFault) {
	if l.State != types.HttpNfcLeaseStateReady && l.State != types.HttpNfcLeaseStateInitializing {
		return
	}
	close(l.cut)
	l.heard = time.Now()
	simulator.Map.Update(l, []types.PropertyChange{
		{Name: "error", Val: types.LocalizedMethodFault{Fault: cause, LocalizedMessage: text}},
		{Name: "state", Val: types.HttpNfcLeaseStateError},
	})
	l.taskState(types.TaskInfoStateError)
	if l.Info != nil {
		l.desk.removeMachine(l.Info.Entity)
	}
}

func (l *lease) over(method string) *soap.Fault {
	if l.Error != nil {
		if _, timedOut := l.Error.Fault.(*types.Timedout); timedOut {
			return fault(l.Error.LocalizedMessage, &types.Timedout{})
		}
	}
	return fault(fmt.Sprintf("%s: the lease is in state %s", method, l.State), &types.InvalidState{})
}

// HttpNfcLeaseProgress keeps the lease alive.
func (l *lease) HttpNfcLeaseProgress(_ *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	body := new(methods.HttpNfcLeaseProgressBody)
	switch {
	case req.Percent < 0 || req.Percent > 100:
		body.Fault_ = fault("", &types.InvalidArgument{InvalidProperty: "percent"})
	case l.State != types.HttpNfcLeaseStateReady && l.State != types.HttpNfcLeaseStateInitializing:
		body.Fault_ = l.over("HttpNfcLeaseProgress")
	default:
		l.heard = time.Now()
		simulator.Map.Update(l, []types.PropertyChange{{Name: "transferProgress", Val: req.Percent}})
		body.Res = new(types.HttpNfcLeaseProgressResponse)
	}
	return body
}

// HttpNfcLeaseComplete turns what was uploaded into the machine's disks.
func (l *lease) HttpNfcLeaseComplete(_ *simulator.Context, req *types.HttpNfcLeaseComplete) soap.HasFault {
	body := new(methods.HttpNfcLeaseCompleteBody)
	if l.State != types.HttpNfcLeaseStateReady {
		body.Fault_ = l.over("HttpNfcLeaseComplete")
		return body
	}
	for _, disk := range l.disks {
		if !disk.done {
			body.Fault_ = fault(fmt.Sprintf("disk-%d.vmdk has not been uploaded", disk.number), &types.InvalidState{})
			return body
		}
	}
	l.desk.adoptDisks(l.Info.Entity, l.disks)
	simulator.Map.Update(l, []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateDone}})
	l.taskState(types.TaskInfoStateSuccess)
	l.desk.leases.forget(l)
	body.Res = new(types.HttpNfcLeaseCompleteResponse)
	return body
}

// HttpNfcLeaseAbort removes the machine and its files.
func (l *lease) HttpNfcLeaseAbort(_ *simulator.Context, req *types.HttpNfcLeaseAbort) soap.HasFault {
	body := new(methods.HttpNfcLeaseAbortBody)
	if l.State != types.HttpNfcLeaseStateReady && l.State != types.HttpNfcLeaseStateInitializing {
		body.Fault_ = l.over("HttpNfcLeaseAbort")
		return body
	}
	text, cause := "The import was cancelled.", types.BaseMethodFault(&types.RequestCanceled{})
	if req.Fault != nil && req.Fault.Fault != nil {
		text, cause = req.Fault.LocalizedMessage, req.Fault.Fault
	}
	l.fail(text, cause)
	l.desk.leases.forget(l)
	body.Res = new(types.HttpNfcLeaseAbortResponse)
	return body
}

// HttpNfcLeaseGetManifest returns what the host received.
func (l *lease) HttpNfcLeaseGetManifest(_ *simulator.Context, req *types.HttpNfcLeaseGetManifest) soap.HasFault {
	body := new(methods.HttpNfcLeaseGetManifestBody)
	if l.State != types.HttpNfcLeaseStateReady {
		body.Fault_ = l.over("HttpNfcLeaseGetManifest")
		return body
	}
	body.Res = new(types.HttpNfcLeaseGetManifestResponse)
	for _, disk := range l.disks {
		if !disk.done {
			continue
		}
		entry := types.HttpNfcLeaseManifestEntry{
			Key: "/" + l.Info.Entity.Value + "/" + disk.device, Size: disk.sizeBytes, Disk: true,
			Capacity: disk.capacity, PopulatedSize: disk.populated,
			Checksum: disk.digest, ChecksumType: disk.digestKind,
		}
		if l.desk.faults.now().WrongDigest {
			entry.Checksum = "00" + entry.Checksum[2:]
		}
		if disk.digestKind == "sha1" {
			entry.Sha1 = entry.Checksum
		}
		body.Res.Returnval = append(body.Res.Returnval, entry)
	}
	return body
}

// HttpNfcLeaseSetManifestChecksumType chooses the digest of uploads that have not begun.
func (l *lease) HttpNfcLeaseSetManifestChecksumType(
	_ *simulator.Context, req *types.HttpNfcLeaseSetManifestChecksumType,
) soap.HasFault {
	body := new(methods.HttpNfcLeaseSetManifestChecksumTypeBody)
	for _, pair := range req.DeviceUrlsToChecksumTypes {
		found := false
		for _, disk := range l.disks {
			if l.Info == nil || pair.Key != "/"+l.Info.Entity.Value+"/"+disk.device {
				continue
			}
			found = !disk.receiving && !disk.done && (pair.Value == "sha1" || pair.Value == "sha256")
			if found {
				disk.digestKind = pair.Value
			}
		}
		if !found {
			body.Fault_ = fault("", &types.InvalidArgument{InvalidProperty: "deviceUrlsToChecksumTypes"})
			return body
		}
	}
	body.Res = new(types.HttpNfcLeaseSetManifestChecksumTypeResponse)
	return body
}

// uploadPath is where disk n of a machine is stored.
func (d *front) uploadPath(vm types.ManagedObjectReference, number int) string {
	return filepath.Join(d.settings.uploads, vm.Value, fmt.Sprintf("disk-%d.vmdk", number))
}

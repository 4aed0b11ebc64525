package main

// The front desk: routes requests, checks sessions, and survives panics.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	sessionCookie   = "vmware_soap_session"
	maxRequestBytes = 64 << 20
)

// handler answers one SOAP method; a nil answer with a nil fault passes the call to the simulator.
type handler func(*call) (interface{}, *soap.Fault)

type front struct {
	settings   settings
	address    string // host:port
	thumbprint string // SHA-1 of the certificate
	inner      *guarded
	routes     http.Handler
	sessions   *sessions
	served     *servedCalls
	faults     faultDoors
	leases     leaseTable
	handlers   map[string]handler

	creating  sync.Mutex // one creation at a time, so that a free name stays free until it is taken
	charges   sync.Mutex
	charged   map[types.ManagedObjectReference]map[types.ManagedObjectReference]int64 // datastore → machine → bytes
	questions questionTable
	ending    sync.RWMutex // held for writing while a session is taken apart
	waits     sync.Map     // collector → *sync.Mutex: one wait at a time on each
	idle      sync.Map     // connections that wait for a request
	upAt      atomic.Value // when the server has restarted
}

// guarded calls the simulator in-process and turns its panics into faults.
type guarded struct{ *simulator.Service }

func (g *guarded) RoundTrip(ctx context.Context, request, response soap.HasFault) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			log.Printf("inner call: %v\n%s", problem, debug.Stack())
			err = soap.WrapSoapFault(fault(fmt.Sprint(problem), &types.InvalidRequest{}))
		}
	}()
	return g.Service.RoundTrip(ctx, request, response)
}

func newFront(service *simulator.Service, s settings, address, thumbprint string) *front {
	d := &front{
		settings: s, address: address, thumbprint: thumbprint,
		inner: &guarded{service}, routes: service.ServeMux,
		sessions: newSessions(time.Duration(s.sessionTimeoutSeconds) * time.Second),
		served:   newServedCalls(),
		charged:  map[types.ManagedObjectReference]map[types.ManagedObjectReference]int64{},
	}
	d.leases.desk = d
	d.handlers = map[string]handler{
		"ImportVApp":             d.importVApp,
		"CreateVM_Task":          d.createVM,
		"CloneVM_Task":           d.cloneVM,
		"PowerOnVM_Task":         d.powerOn,
		"PowerOnMultiVM_Task":    d.powerOnMulti,
		"PowerOffVM_Task":        d.powerOff,
		"ResetVM_Task":           d.reset,
		"ShutdownGuest":          d.shutdownGuest,
		"RebootGuest":            d.rebootGuest,
		"ReconfigVM_Task":        d.reconfigure,
		"Destroy_Task":           d.destroy,
		"UnregisterVM":           d.unregister,
		"AnswerVM":               d.answer,
		"HasPrivilegeOnEntities": d.hasPrivileges,
		"RefreshDatastore":       d.refreshDatastore,
		"FetchDVPortKeys":        d.fetchPortKeys,
	}
	for _, store := range d.datastores() {
		d.publish(store)
	}
	d.publishPorts()
	go d.watch()
	return d
}

// watch ends what has been idle too long.
func (d *front) watch() {
	for range time.Tick(200 * time.Millisecond) {
		d.dropSessions(false)
		d.leases.expire(time.Now())
	}
}

// follow keeps the list of connections that wait for a request.
func (d *front) follow(connection net.Conn, state http.ConnState) {
	if state == http.StateIdle {
		d.idle.Store(connection, true)
	} else {
		d.idle.Delete(connection)
	}
}

// dropIdle closes the connections that wait for a request, as firewalls and balancers do.
func (d *front) dropIdle() {
	d.idle.Range(func(connection, _ interface{}) bool {
		_ = connection.(net.Conn).Close()
		return true
	})
}

// dropSessions also logs them out of the simulator, which would keep collecting updates for them.
func (d *front) dropSessions(everyone bool) {
	const logout = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><Logout xmlns="urn:vim25">` +
		`<_this type="SessionManager">SessionManager</_this></Logout></Body></Envelope>`
	for _, cookie := range d.sessions.takeExpired(everyone) {
		d.ending.Lock()
		func() {
			defer func() { _ = recover() }()
			request := httptest.NewRequest(http.MethodPost, vim25.Path, strings.NewReader(logout))
			request.AddCookie(&http.Cookie{Name: sessionCookie, Value: cookie})
			d.routes.ServeHTTP(httptest.NewRecorder(), request)
		}()
		d.ending.Unlock()
	}
}

// restart ends what a server forgets as it restarts, and answers nobody for a while.
func (d *front) restart(ms int) {
	d.upAt.Store(time.Now().Add(time.Duration(ms) * time.Millisecond))
	d.dropIdle()
	d.dropSessions(true)
	d.leases.expireAll()
}

// isRestarting answers as a vCenter does meanwhile: first nothing, then a proxy's page while it gets ready.
func (d *front) isRestarting(w http.ResponseWriter) bool {
	upAt, _ := d.upAt.Load().(time.Time)
	left := time.Until(upAt)
	if left <= 0 {
		return false
	}
	if left > 500*time.Millisecond {
		panic(http.ErrAbortHandler)
	}
	http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
	return true
}

func (d *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if problem := recover(); problem != nil {
			if problem == http.ErrAbortHandler {
				panic(problem)
			}
			log.Printf("%s %s: %v\n%s", r.Method, r.URL.Path, problem, debug.Stack())
			http.Error(w, fmt.Sprint(problem), http.StatusInternalServerError)
		}
	}()
	switch {
	case r.URL.Path == "/lab/faults":
		d.serveFaults(w, r)
	case r.URL.Path == "/lab/served":
		d.serveServed(w, r)
	case r.URL.Path == "/lab/sink":
		d.serveSink(w, r)
	case d.isRestarting(w):
	case r.URL.Path == "/screen":
		d.serveScreen(w, r)
	case strings.HasPrefix(r.URL.Path, "/nfc/"), strings.HasPrefix(r.URL.Path, "/ha-nfc/"):
		d.serveUpload(w, r)
	case r.URL.Path == vim25.Path+"/vimServiceVersions.xml":
		w.Header().Set("Content-Type", "text/xml")
		_, _ = io.WriteString(w, serviceVersions)
	case r.URL.Path == vim25.Path, r.URL.Path == vim25.Path+"/vimService":
		d.serveSDK(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (d *front) serveSDK(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	}
	body, err := ioutil.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.faults.delay()
	one, problem := decode(body)
	if problem != nil {
		writeFault(w, problem)
		return
	}
	answer := &answerWriter{ResponseWriter: w, served: d.served}
	w = answer
	d.served.note(one, r.UserAgent())
	rule := d.faults.answerTo(one.Name)
	if rule == answerEnded {
		d.dropSessions(true)
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil && d.sessions.enter(cookie.Value) {
		one.cookie = cookie.Value
		answer.isForeign = d.sessions.isForeign(one.cookie)
		defer d.sessions.leave(one.cookie)
	} else {
		r.Header.Del("Cookie")
		if !openToAll(one) {
			d.refuseUnknown(w, one)
			return
		}
	}
	if d.faults.now().FailCall == one.Name {
		writeFault(w, fault("A fault asked for by the test.", &types.HostCommunication{}))
		return
	}
	switch {
	case d.answerInstead(w, rule, one):
	case rule == answerLostAfter:
		d.carryOutInSilence(r, one, body)
	default:
		d.carryOut(w, r, one, body)
	}
}

// carryOut answers a call itself, or passes it to the simulator.
func (d *front) carryOut(w http.ResponseWriter, r *http.Request, one *call, body []byte) {
	if problem := d.forbids(one); problem != nil {
		writeFault(w, problem)
		return
	}
	if handle := d.handlers[one.Name]; handle != nil {
		answer, problem := d.protected(one, handle)
		if problem != nil {
			writeFault(w, problem)
			return
		}
		if answer != nil {
			writeAnswer(w, answer)
			return
		}
	}
	d.handOn(w, r, one, body)
}

// decode reads a call; a request that makes the decoder panic is a bad request.
func decode(body []byte) (one *call, problem *soap.Fault) {
	defer func() {
		if cause := recover(); cause != nil {
			problem = fault(fmt.Sprint(cause), &types.InvalidRequest{})
		}
	}()
	method, err := simulator.UnmarshalBody(typeByName, body)
	if err != nil {
		return nil, fault(err.Error(), &types.InvalidRequest{})
	}
	return &call{Method: method}, nil
}

// openToAll tells whether a call needs no session: signing in, and what precedes it.
func openToAll(one *call) bool {
	switch one.Name {
	case "RetrieveServiceContent", "Login":
		return true
	case "Fetch":
		return one.This.Type == "ServiceInstance"
	}
	return false
}

func (d *front) protected(one *call, handle handler) (answer interface{}, problem *soap.Fault) {
	defer func() {
		if cause := recover(); cause != nil {
			log.Printf("%s: %v\n%s", one.Name, cause, debug.Stack())
			answer, problem = nil, fault(fmt.Sprint(cause), &types.InvalidRequest{})
		}
	}()
	return handle(one)
}

// handOn passes the call to the simulator.
func (d *front) handOn(w http.ResponseWriter, r *http.Request, one *call, body []byte) {
	switch one.Name {
	case "Logout":
		d.ending.Lock()
		defer d.ending.Unlock()
	case "WaitForUpdatesEx", "WaitForUpdates":
		// Two waits on one collector would write to one map of the simulator.
		lock, _ := d.waits.LoadOrStore(one.cookie+one.This.Value, new(sync.Mutex))
		lock.(*sync.Mutex).Lock()
		defer lock.(*sync.Mutex).Unlock()
	default:
		d.ending.RLock()
		defer d.ending.RUnlock()
	}
	if one.Name == "Fetch" && baseTypes[one.This.Type] {
		// The simulator would walk its objects without a lock to find the real type.
		writeFault(w, fault("name the object by its own type", &types.ManagedObjectNotFound{Obj: one.This}))
		return
	}
	recorder := httptest.NewRecorder()
	r.Body = ioutil.NopCloser(bytes.NewReader(body))
	if cause := serveGuarded(d.routes, recorder, r); cause != nil {
		if one.Name == "Fetch" {
			writeAnswer(w, &FetchResponse{}) // the simulator panics if a property is unset
			return
		}
		writeFault(w, fault(fmt.Sprint(cause), &types.InvalidRequest{}))
		return
	}
	if one.Name == "Login" {
		d.served.noteSignIn(recorder.Code == http.StatusOK)
	}
	if recorder.Code == http.StatusOK {
		d.afterwards(one, recorder)
	}
	for name, values := range recorder.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes())
}

var baseTypes = map[string]bool{"ManagedEntity": true, "ComputeResource": false}

// FetchResponse is the answer for an unset property: nothing.
type FetchResponse struct{}

func serveGuarded(routes http.Handler, w http.ResponseWriter, r *http.Request) (cause interface{}) {
	defer func() {
		if cause = recover(); cause != nil {
			log.Printf("%s: %v\n%s", r.URL.Path, cause, debug.Stack())
		}
	}()
	routes.ServeHTTP(w, r)
	return nil
}

// afterwards keeps the desk's own list of sessions.
func (d *front) afterwards(one *call, recorder *httptest.ResponseRecorder) {
	switch one.Name {
	case "Login":
		for _, cookie := range recorder.Result().Cookies() {
			if cookie.Name == sessionCookie {
				d.sessions.begin(cookie.Value, one.Body.(*types.Login).Locale)
			}
		}
	case "Logout":
		d.sessions.end(one.cookie)
	case "TerminateSession":
		ids := reflect.Indirect(reflect.ValueOf(one.Body)).FieldByName("SessionId")
		for i := 0; i < ids.Len(); i++ {
			d.sessions.end(ids.Index(i).String())
		}
	}
}

package main

// Answers that a server gives instead of what was asked for: to those who are not signed in, may not
// read, or get through to something else than the server.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/vmware/govmomi/vim25/types"
)

// answerRule says what a test wants to have answered instead.
type answerRule struct {
	Call   string `json:"call"`   // SOAP method, or "" for each
	Answer string `json:"answer"` // one of those below
	Times  int    `json:"times"`  // 0: from now on
}

const (
	answerHTML      = "html"          // a proxy's page, with status 200
	answerUnknown   = "unknown"       // a type that the client does not know
	answerLost      = "lost"          // nothing: the connection closes before the call is carried out
	answerLostAfter = "lost_after"    // nothing: the connection closes after the call was carried out
	answerLeases    = "leases_ended"  // nothing either, and all leases time out
	answerEnded     = "session_ended" // the session ends with this call
	answerForbidden = "no_permission" // the user may not call it, or read any property
	answerEmpty     = "nothing"       // an answer without content
	answerNever     = "not_supported" // the server does not know the call
)

// answerTo returns what to answer a call with instead, or "", and uses up a rule that counts.
func (f *faultDoors) answerTo(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, rule := range f.set.Answers {
		if rule.Call != "" && rule.Call != name {
			continue
		}
		if rule.Times == 1 {
			f.set.Answers = append(f.set.Answers[:i:i], f.set.Answers[i+1:]...)
		} else if rule.Times > 1 {
			f.set.Answers[i].Times--
		}
		return rule.Answer
	}
	return ""
}

// answerInstead answers as the rule says, unless that only matters later; it tells whether it did.
func (d *front) answerInstead(w http.ResponseWriter, rule string, one *call) bool {
	switch rule {
	case answerHTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body><p>Please sign in to the proxy.</p></body></html>")
	case answerUnknown:
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		fmt.Fprintf(w, `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><%[1]sResponse xmlns="urn:vim25">`+
			`<returnval xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="TypeOfTomorrow"><of>tomorrow</of>`+
			`</returnval></%[1]sResponse></Body></Envelope>`, one.Name)
	case answerLost:
		panic(http.ErrAbortHandler)
	case answerLeases:
		d.leases.expireAll()
		panic(http.ErrAbortHandler)
	case answerEmpty:
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		fmt.Fprintf(w, `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><%[1]sResponse xmlns="urn:vim25">`+
			`</%[1]sResponse></Body></Envelope>`, one.Name)
	case answerNever:
		writeFault(w, fault("The operation is not supported on the object.", &types.NotSupported{}))
	case answerForbidden:
		if openToAll(one) || asksForSession(one) {
			return false
		}
		d.refuse(w, one, &types.NoPermission{Object: one.This, PrivilegeId: "System.Read"})
	default:
		return false
	}
	return true
}

// asksForSession tells whether a call reads who is signed in, which everybody may.
func asksForSession(one *call) bool {
	request, ok := one.Body.(*types.RetrievePropertiesEx)
	if !ok || len(request.SpecSet) != 1 || len(request.SpecSet[0].ObjectSet) != 1 {
		return false
	}
	return request.SpecSet[0].ObjectSet[0].Obj.Type == "SessionManager"
}

// refuseUnknown answers a call without a session. vCenter's property collector says it of each property;
// that of ESXi says nothing at all.
func (d *front) refuseUnknown(w http.ResponseWriter, one *call) {
	if _, reads := one.Body.(*types.RetrievePropertiesEx); reads && d.settings.model == "esx" {
		writeAnswer(w, &types.RetrievePropertiesExResponse{})
		return
	}
	d.refuse(w, one, &types.NotAuthenticated{
		NoPermission: types.NoPermission{Object: one.This, PrivilegeId: "System.View"},
	})
}

// refuse answers with a fault; the property collector attaches it to each property instead.
func (d *front) refuse(w http.ResponseWriter, one *call, problem types.BaseMethodFault) {
	request, reads := one.Body.(*types.RetrievePropertiesEx)
	if !reads {
		writeFault(w, fault("The call is refused.", problem))
		return
	}
	result := &types.RetrieveResult{}
	for _, spec := range request.SpecSet {
		for _, asked := range spec.ObjectSet {
			object := types.ObjectContent{Obj: asked.Obj}
			for _, properties := range spec.PropSet {
				if properties.Type == asked.Obj.Type {
					object.MissingSet = append(object.MissingSet, missing(properties.PathSet, problem)...)
				}
			}
			result.Objects = append(result.Objects, object)
		}
	}
	writeAnswer(w, &types.RetrievePropertiesExResponse{Returnval: result})
}

func missing(paths []string, problem types.BaseMethodFault) []types.MissingProperty {
	var all []types.MissingProperty
	for _, path := range paths {
		all = append(all, types.MissingProperty{Path: path, Fault: types.LocalizedMethodFault{Fault: problem}})
	}
	return all
}

// withhold takes from an object what the user may not read; a name and a place in the tree stay visible.
func (d *front) withhold(object *types.ObjectContent) {
	hidden := false
	for _, id := range d.faults.now().Unreadable {
		hidden = hidden || id == object.Obj.Value
	}
	if !hidden {
		return
	}
	var kept []types.DynamicProperty
	for _, property := range object.PropSet {
		if property.Name == "name" || property.Name == "parent" {
			kept = append(kept, property)
			continue
		}
		object.MissingSet = append(object.MissingSet, missing([]string{property.Name}, &types.NoPermission{
			Object: object.Obj, PrivilegeId: "System.Read",
		})...)
	}
	object.PropSet = kept
}

// carryOutInSilence has a call carried out, and closes the connection instead of answering it.
func (d *front) carryOutInSilence(r *http.Request, one *call, body []byte) {
	d.carryOut(httptest.NewRecorder(), r, one, body)
	panic(http.ErrAbortHandler)
}

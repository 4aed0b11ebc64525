package main

// Property collectors: pages, where the simulator always answers with everything, and no lost updates.

import (
	"sync"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// collector replaces the simulator's own; each session gets a fresh one of the same type.
type collector struct {
	simulator.PropertyCollector

	pagesMu sync.Mutex
	pages   map[string]page // by token
}

type page struct {
	rest       []types.ObjectContent
	maxObjects int32
}

// withholder is asked about each object that is answered with; collectors are made by the simulator, so
// they cannot be given it.
var withholder func(*types.ObjectContent)

// installPaging has every session page its answers, without what the desk withholds.
func installPaging(desk *front) {
	withholder = desk.withhold
	ref := simulator.Map.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).
		Content.PropertyCollector
	paged := &collector{}
	paged.Self = ref
	simulator.Map.Put(paged)
}

// cut keeps what exceeds a page for the next call.
func (c *collector) cut(objects []types.ObjectContent, maxObjects int32) *types.RetrieveResult {
	if maxObjects <= 0 || len(objects) <= int(maxObjects) {
		return &types.RetrieveResult{Objects: objects}
	}
	token := uuid.New().String()
	c.pagesMu.Lock()
	defer c.pagesMu.Unlock()
	if c.pages == nil {
		c.pages = map[string]page{}
	}
	c.pages[token] = page{objects[maxObjects:], maxObjects}
	return &types.RetrieveResult{Token: token, Objects: objects[:maxObjects]}
}

func (c *collector) take(token string) (page, bool) {
	c.pagesMu.Lock()
	defer c.pagesMu.Unlock()
	one, found := c.pages[token]
	delete(c.pages, token)
	return one, found
}

// CreatePropertyCollector makes another collector of this type.
func (c *collector) CreatePropertyCollector(
	ctx *simulator.Context, _ *types.CreatePropertyCollector,
) soap.HasFault {
	another := &collector{}
	another.Self.Type = "PropertyCollector"
	return &methods.CreatePropertyCollectorBody{
		Res: &types.CreatePropertyCollectorResponse{Returnval: ctx.Session.Put(another).Reference()},
	}
}

// WaitForUpdatesEx listens before it reads the current state. The simulator listens afterwards, and
// loses what changes in between.
func (c *collector) WaitForUpdatesEx(ctx *simulator.Context, r *types.WaitForUpdatesEx) soap.HasFault {
	if r.Version == "" {
		ctx.Map.AddHandler(&c.PropertyCollector)
	}
	return c.PropertyCollector.WaitForUpdatesEx(ctx, r)
}

// RetrievePropertiesEx answers with the first page.
func (c *collector) RetrievePropertiesEx(ctx *simulator.Context, r *types.RetrievePropertiesEx) soap.HasFault {
	answer := c.PropertyCollector.RetrievePropertiesEx(ctx, r)
	body, ok := answer.(*methods.RetrievePropertiesExBody)
	if !ok || body.Fault_ != nil {
		return answer
	}
	for i := range body.Res.Returnval.Objects {
		withholder(&body.Res.Returnval.Objects[i])
	}
	if r.Options.MaxObjects <= 0 {
		return answer
	}
	body.Res.Returnval = c.cut(body.Res.Returnval.Objects, r.Options.MaxObjects)
	return body
}

// ContinueRetrievePropertiesEx answers with the page after the token's.
func (c *collector) ContinueRetrievePropertiesEx(
	_ *simulator.Context, r *types.ContinueRetrievePropertiesEx,
) soap.HasFault {
	body := new(methods.ContinueRetrievePropertiesExBody)
	one, found := c.take(r.Token)
	if !found {
		body.Fault_ = fault("", &types.InvalidArgument{InvalidProperty: "token"})
		return body
	}
	body.Res = &types.ContinueRetrievePropertiesExResponse{Returnval: *c.cut(one.rest, one.maxObjects)}
	return body
}

// CancelRetrievePropertiesEx forgets the rest.
func (c *collector) CancelRetrievePropertiesEx(
	_ *simulator.Context, r *types.CancelRetrievePropertiesEx,
) soap.HasFault {
	c.take(r.Token)
	return &methods.CancelRetrievePropertiesExBody{Res: new(types.CancelRetrievePropertiesExResponse)}
}

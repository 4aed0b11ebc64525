package main

// Ports of distributed port groups. They are bound statically, and vCenter adds ports when none is left,
// unless a test has taken that away.

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const usualFreePorts = 8

func (d *front) portgroups() []*simulator.DistributedVirtualPortgroup {
	var found []*simulator.DistributedVirtualPortgroup
	for _, entity := range simulator.Map.All("DistributedVirtualPortgroup") {
		found = append(found, entity.(*simulator.DistributedVirtualPortgroup))
	}
	return found
}

// publishPorts shows whether the number of a port group's ports grows.
func (d *front) publishPorts() {
	static := d.faults.now().StaticPorts
	for _, group := range d.portgroups() {
		_, isFixed := static[group.Name]
		simulator.Map.WithLock(group, func() {
			group.Config.Type = string(types.DistributedVirtualPortgroupPortgroupTypeEarlyBinding)
			group.Config.AutoExpand = types.NewBool(!isFixed)
		})
	}
}

// fetchPortKeys names the free ports of port groups.
func (d *front) fetchPortKeys(c *call) (interface{}, *soap.Fault) {
	req := c.Body.(*types.FetchDVPortKeys)
	if req.Criteria == nil || req.Criteria.Connected == nil || *req.Criteria.Connected {
		return nil, fault("only free ports are known", &types.NotSupported{})
	}
	wanted := map[string]bool{}
	for _, key := range req.Criteria.PortgroupKey {
		wanted[key] = true
	}
	answer := &types.FetchDVPortKeysResponse{}
	for _, group := range d.portgroups() {
		free, isFixed := d.faults.now().StaticPorts[group.Name]
		if !isFixed {
			free = usualFreePorts
		}
		for i := 0; wanted[group.Key] && i < free; i++ {
			answer.Returnval = append(answer.Returnval, fmt.Sprintf("%s-%d", group.Key, i))
		}
	}
	return answer, nil
}

package main

// What the user may do: the simulator grants everything; here, tests take privileges away.

import (
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	toMake = []string{
		"VApp.Import", "Resource.AssignVMToPool", "Datastore.AllocateSpace", "Network.Assign",
		"VirtualMachine.Inventory.Create", "VirtualMachine.Config.AddNewDisk",
		"VirtualMachine.Config.AddRemoveDevice", "VirtualMachine.Config.AdvancedConfig",
		"VirtualMachine.Config.Annotation", "VirtualMachine.Config.CPUCount", "VirtualMachine.Config.Memory",
		"VirtualMachine.Config.Settings",
	}
	toPowerOn = []string{"VirtualMachine.Interact.PowerOn"}
	toReset   = []string{"VirtualMachine.Interact.Reset"}
)

// privilegesFor are the privileges that a SOAP method needs.
var privilegesFor = map[string][]string{
	"ImportVApp":          toMake,
	"CreateVM_Task":       toMake[1:],
	"PowerOnVM_Task":      toPowerOn,
	"PowerOnMultiVM_Task": toPowerOn,
	"PowerOffVM_Task":     {"VirtualMachine.Interact.PowerOff"},
	"RebootGuest":         toReset,
	"ResetVM_Task":        toReset,
	"AnswerVM":            {"VirtualMachine.Interact.AnswerQuestion"},
	"Destroy_Task":        {"VirtualMachine.Inventory.Delete"},
}

func (d *front) isMissing(privilege string) bool {
	for _, id := range d.faults.now().MissingPrivileges {
		if id == privilege {
			return true
		}
	}
	return false
}

// forbids returns the fault for a call that the user may not make.
func (d *front) forbids(c *call) *soap.Fault {
	needed := privilegesFor[c.Name]
	if request, ok := c.Body.(*types.ReconfigVM_Task); ok && len(removed(request.Spec.DeviceChange)) > 0 {
		needed = []string{"VirtualMachine.Config.RemoveDisk"}
	}
	for _, id := range needed {
		if d.isMissing(id) {
			return fault("Permission to perform this operation was denied.",
				&types.NoPermission{Object: c.This, PrivilegeId: id})
		}
	}
	return nil
}

// hasPrivileges says true to everything but what a test takes away.
func (d *front) hasPrivileges(c *call) (interface{}, *soap.Fault) {
	req := c.Body.(*types.HasPrivilegeOnEntities)
	answer := &types.HasPrivilegeOnEntitiesResponse{}
	for _, entity := range req.Entity {
		one := types.EntityPrivilege{Entity: entity}
		for _, id := range req.PrivId {
			one.PrivAvailability = append(one.PrivAvailability, types.PrivilegeAvailability{
				PrivId: id, IsGranted: !d.isMissing(id),
			})
		}
		answer.Returnval = append(answer.Returnval, one)
	}
	return answer, nil
}

package main

// Where machines are: the inventory around them, and the space they take on datastores.

import (
	"sort"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func (d *front) datastores() []*simulator.Datastore {
	var found []*simulator.Datastore
	for _, entity := range simulator.Map.All("Datastore") {
		found = append(found, entity.(*simulator.Datastore))
	}
	return found
}

func (d *front) storeName(ref types.ManagedObjectReference) string {
	if store, ok := simulator.Map.Get(ref).(*simulator.Datastore); ok {
		return store.Name
	}
	return ref.Value
}

// above walks up the inventory from an entity until a parent of one of the kinds is found.
func above(entity mo.Entity, kinds ...string) mo.Reference {
	for parent := entity.Entity().Parent; parent != nil; {
		item := simulator.Map.Get(*parent)
		for _, kind := range kinds {
			if item != nil && parent.Type == kind {
				return item
			}
		}
		next, ok := item.(mo.Entity)
		if !ok {
			return nil
		}
		parent = next.Entity().Parent
	}
	return nil
}

func (d *front) datacenterOf(entity mo.Entity) *simulator.Datacenter {
	found, _ := above(entity, "Datacenter").(*simulator.Datacenter)
	return found
}

// computeOf returns the host or cluster that a pool belongs to.
func (d *front) computeOf(entity mo.Entity) *mo.ComputeResource {
	switch found := above(entity, "ComputeResource", "ClusterComputeResource").(type) {
	case *mo.ComputeResource:
		return found
	case *simulator.ClusterComputeResource:
		return &found.ComputeResource
	}
	return nil
}

// used is the space that machines take on a datastore, as booked by the front desk, not on disk.
func (d *front) used(store types.ManagedObjectReference) int64 {
	d.charges.Lock()
	defer d.charges.Unlock()
	total := int64(0)
	for _, bytes := range d.charged[store] {
		total += bytes
	}
	return total
}

func (d *front) free(store *simulator.Datastore) int64 {
	if d.faults.now().FullDatastore == store.Name {
		return 0
	}
	return d.settings.datastoreCapacityBytes - d.used(store.Self)
}

// diskCharge names one disk of a machine in the book.
func diskCharge(vm types.ManagedObjectReference, number int) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: vm.Value, Value: string(rune('0' + number))}
}

// charge books what a disk takes so far; false if the datastore does not have that much.
func (d *front) charge(store, vm types.ManagedObjectReference, number int, bytes int64) bool {
	d.charges.Lock()
	defer d.charges.Unlock()
	if d.charged[store] == nil {
		d.charged[store] = map[types.ManagedObjectReference]int64{}
	}
	key, total := diskCharge(vm, number), int64(0)
	for other, taken := range d.charged[store] {
		if other != key {
			total += taken
		}
	}
	if total+bytes > d.settings.datastoreCapacityBytes || d.faults.now().FullDatastore == d.storeName(store) {
		return false
	}
	d.charged[store][key] = bytes
	return true
}

// discharge releases what a machine took.
func (d *front) discharge(vm types.ManagedObjectReference) {
	d.giveBack(func(key types.ManagedObjectReference) bool { return key.Type == vm.Value })
}

func (d *front) dischargeDisk(vm types.ManagedObjectReference, number int) {
	d.giveBack(func(key types.ManagedObjectReference) bool { return key == diskCharge(vm, number) })
}

func (d *front) giveBack(isMeant func(types.ManagedObjectReference) bool) {
	d.charges.Lock()
	for _, book := range d.charged {
		for key := range book {
			if isMeant(key) {
				delete(book, key)
			}
		}
	}
	d.charges.Unlock()
	for _, store := range d.datastores() {
		d.publish(store)
	}
}

// publish shows a datastore's capacity and free space to clients.
func (d *front) publish(store *simulator.Datastore) {
	capacity, free := d.settings.datastoreCapacityBytes, d.free(store)
	simulator.Map.WithLock(store, func() {
		store.Info.GetDatastoreInfo().FreeSpace = free
		kind := "OTHER"
		if d.faults.now().VvolDatastore == store.Name {
			kind = "VVOL"
		}
		if store.Summary.Capacity == capacity && store.Summary.FreeSpace == free && store.Summary.Type == kind {
			return
		}
		simulator.Map.Update(store, []types.PropertyChange{
			{Name: "summary.capacity", Val: capacity}, {Name: "summary.freeSpace", Val: free},
			{Name: "summary.type", Val: kind},
		})
	})
}

func (d *front) refreshDatastore(c *call) (interface{}, *soap.Fault) {
	store, ok := simulator.Map.Get(c.This).(*simulator.Datastore)
	if !ok {
		return nil, fault("", &types.ManagedObjectNotFound{Obj: c.This})
	}
	d.publish(store)
	return &types.RefreshDatastoreResponse{}, nil
}

// tidyInventory gives datastores plain ids (the simulator makes them of temporary paths), and removes
// dangling and duplicate references from the simulator's model.
func tidyInventory() {
	renamed := renameDatastores()
	tidy := func(lists ...*[]types.ManagedObjectReference) {
		for _, list := range lists {
			seen := map[types.ManagedObjectReference]bool{}
			kept := []types.ManagedObjectReference{}
			for _, ref := range *list {
				if other, found := renamed[ref]; found {
					ref = other
				}
				if simulator.Map.Get(ref) != nil && !seen[ref] {
					kept = append(kept, ref)
				}
				seen[ref] = true
			}
			*list = kept
		}
	}
	for _, entity := range simulator.Map.All("") {
		switch x := entity.(type) {
		case *simulator.Datacenter:
			tidy(&x.Datastore, &x.Network)
		case *mo.ComputeResource:
			tidy(&x.Datastore, &x.Network)
		case *simulator.ClusterComputeResource:
			tidy(&x.Datastore, &x.Network)
		case *simulator.HostSystem:
			tidy(&x.Datastore, &x.Network)
			if x.Summary.Config.Product != nil {
				product := *x.Summary.Config.Product
				product.Version, product.ApiVersion = productVersion, apiVersion
				x.Summary.Config.Product = &product
			}
		case *simulator.DistributedVirtualSwitch:
			markUplinks(x)
		case *simulator.Folder:
			tidy(&x.ChildEntity)
		case *simulator.VirtualMachine:
			tidy(&x.Datastore)
		}
	}
}

// markUplinks tags a switch's uplink port groups, as vCenter does.
func markUplinks(dvs *simulator.DistributedVirtualSwitch) {
	for _, ref := range dvs.Portgroup {
		group, ok := simulator.Map.Get(ref).(*simulator.DistributedVirtualPortgroup)
		if ok && strings.Contains(group.Name, "DVUplinks") {
			group.Tag = []types.Tag{{Key: "SYSTEM/DVS.UPLINKPG"}}
		}
	}
}

// renameDatastores registers each datastore under a number that is the same at every start.
func renameDatastores() map[types.ManagedObjectReference]types.ManagedObjectReference {
	stores := simulator.Map.All("Datastore")
	sort.Slice(stores, func(i, j int) bool {
		return stores[i].Entity().Name < stores[j].Entity().Name
	})
	renamed := map[types.ManagedObjectReference]types.ManagedObjectReference{}
	for i, entity := range stores {
		store := entity.(*simulator.Datastore)
		old := store.Self
		store.Self.Value = "datastore-" + strconv.Itoa(i+1)
		store.Summary.Datastore = &store.Self
		renamed[old] = store.Self
		simulator.Map.Put(store)
		simulator.Map.Remove(old)
	}
	return renamed
}

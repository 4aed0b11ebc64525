package main

// How the front desk reads SOAP calls and writes its own answers and faults.

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

const (
	apiVersion     = "7.0.0.0"
	productVersion = "7.0.0"
)

const serviceVersions = xml.Header + `<namespaces version="1.0">
 <namespace>
  <name>urn:vim25</name>
  <version>` + apiVersion + `</version>
  <priorVersions>
   <version>6.7</version>
   <version>6.5</version>
  </priorVersions>
 </namespace>
</namespaces>
`

var vimTypes = types.TypeFunc()

// typeByName also finds types whose xsi:type has a namespace prefix.
func typeByName(name string) (reflect.Type, bool) {
	kind, found := vimTypes(name)
	if !found {
		if at := strings.IndexByte(name, ':'); at >= 0 {
			return vimTypes(name[at+1:])
		}
	}
	return kind, found
}

// call is one decoded SOAP request.
type call struct {
	*simulator.Method
	cookie string
}

// field returns the text of a field of the request, or "".
func (c *call) field(name string) string {
	value := reflect.Indirect(reflect.ValueOf(c.Body)).FieldByName(name)
	if !value.IsValid() || value.Kind() != reflect.String {
		return ""
	}
	return value.String()
}

func fault(text string, detail types.BaseMethodFault) *soap.Fault {
	return simulator.Fault(text, detail)
}

// faultOf turns an error of an inner call into the fault to answer with.
func faultOf(err error) *soap.Fault {
	if soap.IsSoapFault(err) {
		return soap.ToSoapFault(err)
	}
	return fault(err.Error(), &types.InvalidRequest{})
}

type envelope struct {
	XMLName xml.Name    `xml:"soapenv:Envelope"`
	Enc     string      `xml:"xmlns:soapenc,attr"`
	Env     string      `xml:"xmlns:soapenv,attr"`
	XSD     string      `xml:"xmlns:xsd,attr"`
	XSI     string      `xml:"xmlns:xsi,attr"`
	Body    interface{} `xml:"soapenv:Body"`
}

type answerBody struct{ value interface{} }

// MarshalXML names the answer's element after its type, in the namespace of vSphere.
func (a *answerBody) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	element := xml.StartElement{Name: xml.Name{
		Space: "urn:vim25", Local: reflect.Indirect(reflect.ValueOf(a.value)).Type().Name(),
	}}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if err := e.EncodeElement(a.value, element); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

type faultDetail struct{ Fault types.AnyType }

// MarshalXML renames the element to "<Type>Fault", as clients expect it.
func (d *faultDetail) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	kind := reflect.TypeOf(d.Fault).Elem().Name()
	start.Name.Local = kind + "Fault"
	start.Attr = append(start.Attr,
		xml.Attr{Name: xml.Name{Local: "xmlns"}, Value: "urn:vim25"},
		xml.Attr{Name: xml.Name{Local: "xsi:type"}, Value: kind})
	return e.EncodeElement(d.Fault, start)
}

type faultBody struct {
	XMLName xml.Name `xml:"soapenv:Fault"`
	Code    string   `xml:"faultcode"`
	String  string   `xml:"faultstring"`
	Detail  struct {
		Fault *faultDetail
	} `xml:"detail"`
}

func writeEnvelope(w http.ResponseWriter, status int, body interface{}) {
	var out bytes.Buffer
	fmt.Fprint(&out, xml.Header)
	err := xml.NewEncoder(&out).Encode(&envelope{
		Enc: "http://schemas.xmlsoap.org/soap/encoding/", Env: "http://schemas.xmlsoap.org/soap/envelope/",
		XSD: "http://www.w3.org/2001/XMLSchema", XSI: "http://www.w3.org/2001/XMLSchema-instance",
		Body: body,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

func writeAnswer(w http.ResponseWriter, value interface{}) {
	writeEnvelope(w, http.StatusOK, &answerBody{value})
}

func writeFault(w http.ResponseWriter, f *soap.Fault) {
	body := &faultBody{Code: "ServerFaultCode", String: f.String}
	if answer, ok := w.(*answerWriter); ok && answer.isForeign {
		body.String = "Die Anfrage wurde abgelehnt."
	}
	detail := f.VimFault()
	if detail == nil {
		detail = &types.InvalidRequest{}
	}
	if value := reflect.ValueOf(detail); value.Kind() != reflect.Ptr {
		pointer := reflect.New(value.Type())
		pointer.Elem().Set(value)
		detail = pointer.Interface()
	}
	body.Detail.Fault = &faultDetail{detail}
	writeEnvelope(w, http.StatusInternalServerError, struct{ Fault *faultBody }{body})
}
